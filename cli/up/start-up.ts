import { resolve } from 'node:path'
import { startAdminListener } from '#gateway/admin/admin-listener.ts'
import { type Gateway, type GatewayOptions, startGateway } from '#gateway/gateway.ts'
import { startRoutes } from '#gateway/routes/live-routes.ts'
import type { Routes } from '#gateway/routes/route-table.ts'
import { changedSettings, loadConfig } from '#platform/config.ts'
import type { Config } from '#platform/config-schema.ts'
import { openDataDir } from '#platform/data-dir.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '#platform/embedded-postgres.ts'
import { BridgeError } from '#platform/errors.ts'
import { takeInstanceLock } from '#platform/instance-lock.ts'
import { createTopics } from '#platform/kafka-topics-admin.ts'
import { createLog, type Log } from '#platform/log.ts'
import { createMetrics, type Metrics } from '#platform/metrics.ts'
import { migrate } from '#platform/migrate.ts'
import { startOpsListener } from '#platform/ops-listener.ts'
import { checkStart } from '#platform/start-checks.ts'
import { endAllGateways } from '#worker/presence/lost-gateways.ts'
import { startPresenceRounds, webhookKinds } from '#worker/presence/rounds.ts'
import { createDirectWriter } from '#worker/store/direct-writer.ts'
import { startStore } from '#worker/store/store.ts'
import { startWorker } from '#worker/worker.ts'
import { devicePorts, deviceUrls, opsPort, reachableHost } from '../addresses.ts'
import { withDatabase } from '../database.ts'
import { findInstance, forgetInstance, writeInstance } from '../instance.ts'
import { print } from '../output.ts'
import { needPorts } from '../ports.ts'
import { ProcessParts } from '../process-parts.ts'
import { quoted } from '../registry.ts'
import { version } from '../version.ts'
import { adminTokenOf } from './admin-token.ts'
import { demoLogin } from './demo-device.ts'
import { firstMessageTeller } from './first-message.ts'
import { pasteLines } from './paste-lines.ts'
import { startBox } from './start-box.ts'

const starting = { ok: false, detail: { starting: true } }

type DirectOptions = NonNullable<GatewayOptions['direct']>

interface Tools {
  readonly config: Config
  readonly log: Log
  readonly metrics: Metrics
  readonly parts: ProcessParts
  readonly routes: Routes
}

/** Runs until a signal. Opens from the database towards the devices, so that closing in reverse stops intake first. */
export async function up(): Promise<void> {
  const config = loadConfig(process.env)
  checkStart(config)
  const log = createLog('fleetbridge', config.log.level)
  const metrics = createMetrics(version)
  const routes = await startRoutes({ environment: process.env, log, metrics }) // before a port is opened
  const dataDir = openDataDir(config.dataDir)
  refuseSecond(dataDir)
  await needPorts([
    ...devicePorts(config),
    { variable: 'BRIDGE_OPS_PORT', host: config.ops.host, port: opsPort(config.ops.port, 'gateway') },
    { variable: 'BRIDGE_ADMIN_PORT', ...config.admin },
  ])
  log.info({ version, settings: changedSettings(config) }, 'starting')
  const parts = new ProcessParts(log, config.shutdownMs)
  parts.add('route table', routes)
  parts.onHangUp(() => routes.reload())
  try {
    await start({ config, log, metrics, parts, routes }, dataDir)
    parts.started()
  } catch (error) {
    await parts.closeAll()
    throw error
  }
}

async function start(tools: Tools, dataDir: string): Promise<void> {
  const { config, log, metrics, parts, routes } = tools
  const embedded = config.database.url === undefined ? await startDatabase(tools, dataDir) : undefined
  const databaseUrl = config.database.url ?? (embedded as EmbeddedPostgres).databaseUrl
  await migrate(databaseUrl, log)
  const onStored = firstMessageTeller(databaseUrl)
  const direct = config.kafka.brokers === undefined ? await startDirect(tools, databaseUrl, onStored) : undefined
  if (direct === undefined) await startKafkaSide(tools, databaseUrl, onStored)
  const demo = await demoLogin(databaseUrl, dataDir) // before the gateway, which then knows it from the start
  // Before the gateway, so that /readyz is there while it starts and while it stops.
  let gateway: Gateway | undefined
  const opsListener = parts.add(
    'ops listener',
    await startOpsListener({
      host: config.ops.host,
      port: opsPort(config.ops.port, 'gateway'),
      metrics,
      log,
      ready: () => gateway?.ready() ?? starting,
    }),
  )
  gateway = parts.add(
    'gateway',
    await startGateway(config, {
      databaseUrl,
      routes,
      log,
      metrics,
      ...(direct && { direct: { ...direct, ...(embedded && { mayTake: embedded.disk.mayTake }) } }),
    }),
  )
  const ownToken = adminTokenOf(config.admin, dataDir)
  const admin = parts.add(
    'admin listener',
    await startAdminListener(config.admin, {
      databaseUrl,
      ownToken,
      limits: gateway.limits,
      replayer: gateway.replayer,
      log,
    }),
  )
  await announce({
    config,
    dataDir,
    databaseUrl,
    embedded,
    gateway,
    opsPort: opsListener.port,
    admin: { port: admin.port, where: ownToken.where },
    demo,
  })
  parts.add('state file', { close: async () => forgetInstance(dataDir) })
}

async function startDatabase({ config, log, metrics, parts }: Tools, dataDir: string): Promise<EmbeddedPostgres> {
  const { host, port, minFreeDiskMb } = config.postgres
  const embedded = parts.add(
    'embedded Postgres',
    await startEmbeddedPostgres({ dataDir, host, port, minFreeDiskMb, log }),
  )
  metrics.gauge(
    'fleetbridge_disk_free_bytes',
    'Free space beside the embedded Postgres',
    () => embedded.disk.freeMb() * 1024 ** 2,
  )
  return embedded
}

async function startDirect(
  { config, log, metrics, parts }: Tools,
  databaseUrl: string,
  onStored: ReturnType<typeof firstMessageTeller>,
): Promise<Pick<DirectOptions, 'write' | 'ping' | 'writeDeviceEvents'>> {
  parts.add('lock on the database', await takeInstanceLock(databaseUrl, 'direct', log))
  const { poolSize } = config.database
  const store = parts.add(
    'store',
    await startStore({
      databaseUrl,
      poolSize,
      retention: config.retention.reading,
      recentMessages: config.retention.recentMessage,
      deadLetters: config.retention.deadLetter,
      isKeeper: true,
      webhookKinds: webhookKinds(config.webhook),
      rollups: { tenMinutes: config.retention.rollup10m, hours: config.retention.rollup1h },
      log,
      metrics,
    }),
  )
  store.onStored = onStored
  await withDatabase(databaseUrl, endAllGateways) // none but the gateway of this process is alive
  parts.add('presence', startPresenceRounds({ config, databaseUrl, log, metrics }))
  return {
    write: await createDirectWriter(store),
    ping: () => store.ping(),
    writeDeviceEvents: (records) => store.writeDeviceEvents(records),
  }
}

async function startKafkaSide(
  { config, log, metrics, parts }: Tools,
  databaseUrl: string,
  onStored: ReturnType<typeof firstMessageTeller>,
): Promise<void> {
  await createTopics(config.kafka, log)
  const worker = await startWorker({ ...config, database: { ...config.database, url: databaseUrl } }, { log, metrics })
  parts.add('worker', worker)
  worker.store.onStored = onStored
}

interface Announcement {
  readonly config: Config
  readonly dataDir: string
  readonly databaseUrl: string
  readonly embedded: EmbeddedPostgres | undefined
  readonly gateway: Gateway
  readonly opsPort: number
  readonly admin: { readonly port: number; readonly where: string }
  readonly demo: { readonly device: string; readonly token: string }
}

async function announce({
  config,
  dataDir,
  databaseUrl,
  embedded,
  gateway,
  opsPort,
  admin,
  demo,
}: Announcement): Promise<void> {
  const host = reachableHost(config.mqtt.host)
  const urls = deviceUrls(config, gateway)
  const opsUrl = `http://${reachableHost(config.ops.host)}:${opsPort}`
  const adminUrl = `http://${reachableHost(config.admin.host)}:${admin.port}`
  const { eventLog, rateLimiter, ackLevel } = gateway
  writeInstance(dataDir, {
    version,
    startedAt: new Date().toISOString(),
    ...urls,
    ops: opsUrl,
    admin: adminUrl,
    databaseUrl,
    postgresPath: embedded?.dataPath ?? null,
    eventLog,
    rateLimiter,
    ackLevel,
    pids: { fleetbridge: process.pid, ...(embedded !== undefined && { postgres: embedded.pid }) },
  })
  const environment = dataDir === resolve('.fleetbridge') ? '' : `BRIDGE_DATA_DIR=${quoted(dataDir)} `
  const paste = pasteLines({
    host,
    mqttPort: gateway.mqttPort,
    httpUrl: urls.http,
    databaseUrl,
    ...demo,
    environment,
    path: process.env.PATH ?? '',
  })
  await print(
    startBox({
      config,
      urls,
      opsUrl,
      adminUrl,
      adminToken: admin.where,
      databaseUrl,
      embedded,
      eventLog,
      rateLimiter,
      ackLevel,
      ...demo,
      paste,
    }),
  )
}

function refuseSecond(dataDir: string): void {
  const running = findInstance(dataDir)
  if (running === undefined) return
  throw new BridgeError(
    'BRIDGE_SECOND_INSTANCE',
    `fleetbridge runs on ${dataDir} already, as process ${running.pids.fleetbridge} (${running.mqtt ?? running.mqtts}, ${running.http ?? running.https}). ` +
      'Stop it first, or give this one its own BRIDGE_DATA_DIR and ports.',
  )
}
