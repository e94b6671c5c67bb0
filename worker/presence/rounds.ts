import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { createPool } from '../store/connect.ts'
import { retentionMs } from '../store/range-width.ts'
import { loseSessions } from './lost-gateways.ts'
import { directReach, kafkaReach, type Reached } from './reach.ts'
import { countSilent, enrol, learn, look } from './silence.ts'
import { tellFloods, tidy } from './tidy.ts'
import { startWebhook, webhookTarget } from './webhook.ts'

export interface RoundsOptions {
  readonly config: Pick<Config, 'kafka' | 'presence' | 'webhook' | 'retention'>
  readonly databaseUrl: string
  readonly log: Log
  readonly metrics: Metrics
  /** For tests. */
  readonly everyMs?: number
  /** For how long the log must have answered before a device is called silent: those that could not write come back first. */
  readonly graceMs?: number
}

const countEveryMs = 10_000
const floodsEveryMs = 30_000
const tidyEveryMs = 600_000
const logEveryMs = 60_000

/** Of which kinds of device events the webhook hears; none without one. */
export function webhookKinds({ url, kinds }: Config['webhook']): readonly string[] {
  return url === undefined ? [] : kinds
}

/**
 * What nobody sends: gateways that are gone, devices that are silent or back, floods of dead letters, and the calls of the webhook. All workers do
 * rounds, and each step is one worker's at a time.
 * @throws BridgeError BRIDGE_CONFIG_INVALID for a webhook that cannot be called
 */
export function startPresenceRounds(options: RoundsOptions): Handle {
  const { config, databaseUrl, log, metrics, everyMs = 2000, graceMs = 120_000 } = options
  const { presence, webhook, retention, kafka } = config
  const target = webhookTarget(webhook)
  const pool = createPool({ databaseUrl, poolSize: 2, log, onOtherServer: () => {} })
  const reach = kafka.brokers === undefined ? directReach(pool) : kafkaReach(kafka, pool, log)
  const rules = {
    webhookKinds: webhookKinds(webhook),
    expirySeconds: presence.gatewayExpirySeconds,
    minSeconds: presence.silentMinSeconds,
    maxSeconds: presence.silentMaxSeconds,
  }
  const counts = { lost: 0, silent: 0, back: 0, expired: 0 }
  const calls = { taken: 0, failed: 0 }
  let silent: ReadonlyMap<string, number> = new Map()
  registerMetrics()
  const sender = target && startWebhook(target, { pool, log, counts: calls })

  let stopping = false
  let loggedMs = Number.NEGATIVE_INFINITY
  let enrolled = 0
  let reached: Reached | undefined
  let asking: Promise<void> | undefined
  const due = new Map<string, number>()
  const isDue = (what: string, ms: number) => {
    const now = performance.now()
    if (now < (due.get(what) ?? 0)) return false
    due.set(what, now + ms)
    return true
  }

  async function round(): Promise<void> {
    // Not waited for: while Kafka is away it takes long to say so. What was reached before only makes us later.
    asking ??= reach.advance().then((answer) => {
      reached = answer
      asking = undefined
    })
    const known = reached
    if (known !== undefined)
      await alone(pool, async (client) => {
        counts.lost += await loseSessions(client, known, rules)
      })
    if (presence.silence) {
      await alone(pool, (client) => enrol(client, enrolled++ % 500 === 0))
      await alone(pool, (client) => learn(client, rules))
      if (known !== undefined && known.wellMs >= graceMs)
        await alone(pool, async (client) => {
          const found = await look(client, known, rules)
          counts.silent += found.silent
          counts.back += found.back
        })
      if (isDue('count', countEveryMs)) silent = await countSilent(pool)
    }
    if (rules.webhookKinds.includes('dead_letters') && isDue('floods', floodsEveryMs))
      await alone(pool, (client) => tellFloods(client, webhook.deadLetters))
    if (isDue('tidy', tidyEveryMs)) {
      const kept = { eventsMs: retentionMs(retention.deviceEvent), deliveriesMs: webhook.maxAgeHours * 3_600_000 }
      counts.expired += await tidy(pool, kept, () => stopping)
    }
  }

  let wake: (() => void) | undefined
  async function run(): Promise<void> {
    while (!stopping) {
      await round().catch((error: unknown) => {
        if (stopping || performance.now() - loggedMs < logEveryMs) return
        loggedMs = performance.now()
        log.warn({ err: error }, 'a look for lost and silent devices failed; trying again')
      })
      if (stopping) return
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, everyMs)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }
  const running = run()

  function registerMetrics(): void {
    const total = (name: string, help: string, read: () => number) =>
      metrics.totals(name, help, [], () => [[{}, read()]])
    total('fleetbridge_sessions_lost_total', 'Sessions that were lost with their gateway', () => counts.lost)
    total('fleetbridge_devices_silent_total', 'Times that a device became silent', () => counts.silent)
    total('fleetbridge_devices_back_total', 'Times that a silent device came back', () => counts.back)
    total('fleetbridge_webhook_expired_total', 'Events that the webhook never took', () => counts.expired)
    metrics.totals('fleetbridge_webhook_calls_total', 'Calls of the webhook by what became of them', ['result'], () => [
      [{ result: 'taken' }, calls.taken],
      [{ result: 'failed' }, calls.failed],
    ])
    metrics.gauge(
      'fleetbridge_silent_devices',
      'Devices that report no longer as they used to; every worker says the same, so take the max',
      () => [...silent.values()].reduce((sum, count) => sum + count, 0),
    )
    metrics.gauges(
      'fleetbridge_tenant_silent_devices',
      'The same by tenant, of those that presence.metricTenants names',
      'tenant',
      () => presence.metricTenants.map((tenant) => [tenant, silent.get(tenant) ?? 0] as const),
    )
  }

  return handleOf(async () => {
    stopping = true
    wake?.()
    await sender?.close()
    await running
    await reach.close()
    await Promise.race([asking, new Promise((resolve) => setTimeout(resolve, 1000).unref())])
    await pool.end()
  })
}

/** A transaction of one worker at a time; the others leave it to it. */
async function alone(pool: pg.Pool, step: (client: pg.ClientBase) => Promise<void>): Promise<void> {
  const client = await pool.connect()
  let broken = true
  try {
    await client.query('begin')
    const { rows } = await client.query<{ mine: boolean }>('select pg_try_advisory_xact_lock($1, $2) as mine', [
      advisoryLocks.space,
      advisoryLocks.presence,
    ])
    if (rows[0]?.mine === true) await step(client)
    await client.query('commit')
    broken = false
  } finally {
    client.release(broken)
  }
}
