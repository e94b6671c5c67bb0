import { isIPv4 } from 'node:net'
import { ClientAddresses } from '#platform/client-addresses.ts'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { startTlsCertificates } from '#platform/tls-certificates.ts'
import { createAccounts } from './accounts.ts'
import { clientCaPems } from './auth/client-authorities.ts'
import { LoginGuard } from './auth/login-guard.ts'
import { startRegistry } from './auth/registry.ts'

import { catchesUp } from './catch-up.ts'

import { startParkedQuota } from './dead-letters/parked-quota.ts'

import { createReplayer, type Replayer } from './dead-letters/replayer.ts'
import { startDirectEventLog, type WriteDirect } from './event-log/direct-event-log.ts'
import type { AckLevel, EventLog } from './event-log/event-log.ts'
import { startKafkaEventLog } from './event-log/kafka-event-log.ts'
import { startHttpSource } from './http/http-source.ts'
import { createLimitBooks } from './limit-books.ts'
import { startMqttSource } from './mqtt/mqtt-source.ts'
import { createWebSocketDoor } from './mqtt/web-socket-door.ts'
import { createNormalizer } from './normalize/create-normalizer.ts'
import { Rebirths } from './normalize/rebirths.ts'
import { createPipeline } from './pipeline.ts'
import type { DeviceEventWriter } from './presence/device-event-writer.ts'
import { createKafkaDeviceEvents } from './presence/kafka-device-events.ts'
import { startPresence } from './presence/presence.ts'
import { createLimitInspector, type LimitInspector } from './rate-limit/limit-inspector.ts'
import { type LimitOverrideRow, LimitOverrides } from './rate-limit/limit-overrides.ts'
import type { LimitPolicy } from './rate-limit/limit-policy.ts'
import { startMemoryRateLimiter } from './rate-limit/memory-rate-limiter.ts'
import type { RateLimiter } from './rate-limit/rate-limiter.ts'
import { startRedisRateLimiter } from './rate-limit/redis-rate-limiter.ts'
import type { Routes } from './routes/route-table.ts'

export interface GatewayOptions {
  /** Where devices and credentials are read; in Kafka mode nothing else is. */
  readonly databaseUrl: string
  /** What stands behind the direct event log; needed without Kafka. */
  readonly direct?: {
    /** Writes a batch to Postgres and resolves at the commit. */
    readonly write: WriteDirect
    /** Resolves when Postgres answers. */
    readonly ping: () => Promise<void>
    /** False while the disk is too full to take more. */
    readonly mayTake?: () => boolean
    /** Makes device events rows; the same ones may come again. */
    readonly writeDeviceEvents?: DeviceEventWriter['write']
  }
  /** What operators have said about topics and paths; absent: the default order decides alone. */
  readonly routes?: Routes
  readonly log: Log
  readonly metrics: Metrics
}

export interface Gateway extends Handle {
  /** Ports that are listened on; 0 for a listener that is off. */
  readonly mqttPort: number
  readonly mqttTlsPort: number
  readonly httpPort: number
  readonly httpTlsPort: number
  readonly eventLog: EventLog['kind']
  readonly rateLimiter: RateLimiter['kind']
  readonly ackLevel: AckLevel
  /** What holds for a device, and what is left of it. */
  readonly limits: LimitInspector
  /** What /readyz says: credentials are loaded and the event log has not been away for 10 s. Redis never turns it. */
  ready(): { ok: boolean; detail: Record<string, unknown> }
  /** Sends dead letters down this gateway's path once more. */
  readonly replayer: Replayer
  /** Resolves when credentials written before the call are known here. */
  credentialsRefreshed(): Promise<void>
}

const eventLogAwayMs = 10_000

/** Opens from the log towards the devices, so closing in reverse stops intake first and flushes last. */
export async function startGateway(config: Config, options: GatewayOptions): Promise<Gateway> {
  const { databaseUrl, routes, log, metrics } = options
  const tools = { log, metrics }
  if (config.mqtt.open) needLoopback(config)
  await using opened = new AsyncDisposableStack() // a failed start closes what it had opened
  const limits = new LimitOverrides(config.limits)
  const registry = opened.use(
    await startRegistry({
      databaseUrl,
      auth: config.auth,
      limits: config.limits,
      onLimitOverrides: (rows) => takeOverrides(limits, rows, log),
      ...tools,
    }),
  )
  limits.typesFrom(registry)
  const rateLimiter = opened.use(await startRateLimiter(config.redis.url, limits, tools))
  const eventLog = opened.use(await startEventLog(config, options))
  metrics.state(
    'fleetbridge_ack_level',
    'What an acknowledgement is worth: committed, replicated or single-copy',
    'level',
    () => eventLog.ackLevel,
  )
  const accounts = createAccounts(metrics)
  const rebirths = new Rebirths()
  let contractsBroken = 0
  metrics.totals(
    'fleetbridge_contract_warnings_total',
    'Stored messages that break the contract of their type (mode warn)',
    [],
    () => [[{}, contractsBroken] as const],
  )
  const normalizing = {
    retentionMs: retentionMs(config.retention.reading),
    aliases: registry.aliases,
    routes,
    rulesOf: registry.rulesOf,
    onContractBroken: () => contractsBroken++,
  }
  const normalizer = createNormalizer({
    ...normalizing,
    authenticator: registry,
    askForBirth: (tenant, node) => rebirths.ask(tenant, node),
  })
  const parkedQuota = opened.use(startParkedQuota(databaseUrl, config.deadLetters, log))
  const replayer = createReplayer({
    eventLog,
    accounts,
    createNormalizer: (dryRun) =>
      createNormalizer({ ...normalizing, authenticator: dryRun ? { admitDevice: () => 'admitted' } : registry }),
  })
  const deviceEvents = createDeviceEventWriter(config, options)
  const presence =
    deviceEvents &&
    opened.use(startPresence({ writer: deviceEvents, expirySeconds: config.presence.gatewayExpirySeconds, ...tools }))
  const limitBooks = createLimitBooks({ ...tools, ...(presence && { events: presence }) })
  opened.defer(() => limitBooks.close())
  const pipeline = createPipeline({
    rateLimiter,
    normalizer,
    eventLog,
    accounts,
    limitBooks,
    parkedQuota,
    log,
    catchesUp: catchesUp(config.limits),
  })
  const { clientCas } = config.auth
  const authorities = {
    files: clientCas.map(({ file }) => file),
    pems: () => clientCaPems(clientCas),
  }
  const tls = await startTlsCertificates(config.tls, { log, ...(clientCas.length > 0 && { authorities }) })
  if (tls !== undefined) {
    opened.use(tls)
    metrics.gauge('fleetbridge_tls_certificate_expiry_timestamp_seconds', 'When our TLS certificate ends', () =>
      Math.round(tls.expiresAtMs() / 1000),
    )
  }
  // What MQTT and HTTP share: a failed login with one slows the next with the other.
  const shared = {
    pipeline,
    authenticator: registry,
    loginGuard: new LoginGuard(config.auth.failures),
    addresses: new ClientAddresses(config.proxy.from),
    clientCertificateOf: registry.clientCertificateOf,
    tls,
    ...tools,
  }
  const mqtt = opened.use(
    await startMqttSource(config.mqtt, {
      ...shared,
      redis: config.redis.url === undefined ? undefined : { url: config.redis.url },
      presence,
      countRefused: (reason) => accounts.turnedAway('mqtt', reason),
    }),
  )
  rebirths.publishBy((tenant, topic, payload) => mqtt.publish(tenant, topic, payload))
  const http = opened.use(
    await startHttpSource(config.http, {
      ...shared,
      countRefused: (reason) => accounts.turnedAway('http', reason),
      levelsOf: ({ tenant, device, fleet }) =>
        fleet ? rateLimiter.known(tenant, undefined, device) : rateLimiter.known(tenant, device, undefined),
      routes,
      webSocketDoor: config.http.webSocket
        ? createWebSocketDoor({ maxPacketBytes: config.mqtt.maxPacketBytes, accept: mqtt.accept })
        : undefined,
    }),
  )
  // At once, so that the sources stop reading, what is held at a limit is refused, and what the log holds is still answered.
  opened.defer(async () => {
    await Promise.all([mqtt.close(), http.close(), pipeline.close()])
  })
  const parts = opened.move()
  let closing = false
  return {
    ...handleOf(() => {
      closing = true
      return parts.disposeAsync()
    }),
    mqttPort: mqtt.port,
    mqttTlsPort: mqtt.tlsPort,
    httpPort: http.port,
    httpTlsPort: http.tlsPort,
    eventLog: eventLog.kind,
    rateLimiter: rateLimiter.kind,
    limits: createLimitInspector(limits, rateLimiter),
    // Read when asked: a Kafka that was away at the start tells its topics later.
    get ackLevel() {
      return eventLog.ackLevel
    },
    replayer,
    credentialsRefreshed: () => registry.refreshed(),
    ready() {
      const awayMs = Math.round(eventLog.awayMs())
      const ok = registry.loaded() && awayMs < eventLogAwayMs && !closing
      return {
        ok,
        detail: {
          ackLevel: eventLog.ackLevel,
          eventLog: eventLog.kind,
          eventLogAwayMs: awayMs,
          credentialsLoaded: registry.loaded(),
          rateLimiter: rateLimiter.kind,
          closing,
        },
      }
    },
  }
}

/** @throws {BridgeError} BRIDGE_CONFIG_INVALID when anybody but this machine could come in without a credential */
function needLoopback({ mqtt, http }: Config): void {
  const listeners: [string, string][] = [['BRIDGE_MQTT_HOST', mqtt.host]]
  if (http.webSocket) listeners.push(['BRIDGE_HTTP_HOST', http.host]) // MQTT comes by it, too
  for (const [variable, host] of listeners)
    if (host !== 'localhost' && host !== '::1' && !(isIPv4(host) && host.startsWith('127.')))
      throw new BridgeError(
        'BRIDGE_CONFIG_INVALID',
        `BRIDGE_MQTT_OPEN=true lets everybody in, so it works on this machine alone: set ${variable}=127.0.0.1 (it is ${host}), or leave BRIDGE_MQTT_OPEN out`,
      )
}

function takeOverrides(limits: LimitOverrides, rows: readonly LimitOverrideRow[], log: Log): void {
  const unknown = [...limits.take(rows)]
  if (unknown.length > 0) log.warn({ unknown: unknown.slice(0, 5) }, 'limits of a newer version are left out here')
  else log.debug({ overrides: rows.length }, 'limits were read from the registry')
}

function startRateLimiter(
  redisUrl: string | undefined,
  policy: LimitPolicy,
  tools: { log: Log; metrics: Metrics },
): Promise<RateLimiter> {
  return redisUrl === undefined ? startMemoryRateLimiter(policy) : startRedisRateLimiter(policy, redisUrl, tools)
}

function startEventLog({ kafka }: Config, { direct, log, metrics }: GatewayOptions): Promise<EventLog> {
  if (kafka.brokers !== undefined) return startKafkaEventLog(kafka, { log, metrics })
  if (direct === undefined) throw new TypeError('without Kafka the gateway needs a database to write to')
  const { write, ...checks } = direct
  return startDirectEventLog(write, { log, metrics, ...checks })
}

function createDeviceEventWriter({ kafka }: Config, { direct, log }: GatewayOptions): DeviceEventWriter | undefined {
  if (kafka.brokers !== undefined) return createKafkaDeviceEvents(kafka, log)
  const write = direct?.writeDeviceEvents
  return write && { write, ...handleOf(() => Promise.resolve()) }
}

/** `90d` or `forever` in milliseconds; undefined for no end. */
function retentionMs(text: string): number | undefined {
  return text === 'forever' ? undefined : Number.parseInt(text, 10) * 86_400_000
}
