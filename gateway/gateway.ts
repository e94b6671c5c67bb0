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
import { startParkedQuota } from './dead-letters/parked-quota.ts'
import { createReplayer, type Replayer } from './dead-letters/replayer.ts'
import { startDirectEventLog, type WriteDirect } from './event-log/direct-event-log.ts'
import type { AckLevel, EventLog } from './event-log/event-log.ts'
import { startKafkaEventLog } from './event-log/kafka-event-log.ts'
import { startHttpSource } from './http/http-source.ts'
import { startMqttSource } from './mqtt/mqtt-source.ts'
import { createWebSocketDoor } from './mqtt/web-socket-door.ts'
import { createNormalizer } from './normalize/create-normalizer.ts'
import { Rebirths } from './normalize/rebirths.ts'
import { createPipeline } from './pipeline.ts'
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
  const registry = opened.use(await startRegistry({ databaseUrl, auth: config.auth, limits: config.limits, ...tools }))
  const rateLimiter = opened.use(await startRateLimiter(config, tools))
  const eventLog = opened.use(await startEventLog(config, options))
  const accounts = createAccounts(metrics)
  const parkedQuota = opened.use(startParkedQuota(databaseUrl, config.deadLetters, log))
  let contractsBroken = 0
  metrics.totals(
    'fleetbridge_contract_warnings_total',
    'Stored messages that break the contract of their type (mode warn)',
    [],
    () => [[{}, contractsBroken] as const],
  )
  const decoding = {
    retentionMs: retentionMs(config.retention.reading),
    rulesOf: registry.rulesOf,
    onContractBroken: () => contractsBroken++,
    aliases: registry.aliases,
    routes,
  }
  const rebirths = new Rebirths()
  const normalizer = createNormalizer({
    ...decoding,
    authenticator: registry,
    askForBirth: (tenant, node) => rebirths.ask(tenant, node),
  })
  const replayer = createReplayer({
    eventLog,
    accounts,
    createNormalizer: (dryRun) =>
      // With births of its own: one of the past may not rename what an edge node sends today.
      createNormalizer({ ...decoding, authenticator: dryRun ? { admitDevice: () => 'admitted' } : registry }),
  })
  const pipeline = createPipeline({ rateLimiter, normalizer, eventLog, accounts, parkedQuota, log })
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
      countRefused: (reason) => accounts.turnedAway('mqtt', reason),
    }),
  )
  rebirths.publishBy((tenant, topic, payload) => mqtt.publish(tenant, topic, payload))
  const http = opened.use(
    await startHttpSource(config.http, {
      ...shared,
      countRefused: (reason) => accounts.turnedAway('http', reason),
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

function startRateLimiter(config: Config, tools: { log: Log; metrics: Metrics }): Promise<RateLimiter> {
  const { limits, redis } = config
  return redis.url === undefined ? startMemoryRateLimiter(limits) : startRedisRateLimiter(limits, redis.url, tools)
}

function startEventLog({ kafka }: Config, { direct, log, metrics }: GatewayOptions): Promise<EventLog> {
  if (kafka.brokers !== undefined) return startKafkaEventLog(kafka, { log, metrics })
  if (direct === undefined) throw new TypeError('without Kafka the gateway needs a database to write to')
  const { write, ...checks } = direct
  return startDirectEventLog(write, { log, metrics, ...checks })
}

/** `90d` or `forever` in milliseconds; undefined for no end. */
function retentionMs(text: string): number | undefined {
  return text === 'forever' ? undefined : Number.parseInt(text, 10) * 86_400_000
}
