import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { BridgeError } from '#platform/errors.ts'
import { handleOf } from '#platform/handle.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { createAccounts } from './accounts.ts'
import type { Authenticator } from './auth/authenticator.ts'
import type { Principal } from './auth/principal.ts'
import { ParkedBytes } from './dead-letters/parked-quota.ts'
import { type Envelope, Lane } from './envelope.ts'
import type { EventLog } from './event-log/event-log.ts'
import type { Ingress } from './ingress.ts'
import { createLimitBooks } from './limit-books.ts'
import { createNormalizer } from './normalize/create-normalizer.ts'
import { createPipeline, type RunningPipeline } from './pipeline.ts'
import { configuredPolicy } from './rate-limit/limit-policy.ts'
import { rulesOf } from './rate-limit/limits.ts'
import { startMemoryRateLimiter } from './rate-limit/memory-rate-limiter.ts'
import type { Verdict } from './verdict.ts'

const authenticator: Authenticator = {
  authenticate: () => 'unknown',
  isLive: () => true,
  onChange: () => () => {},
  admitDevice: () => 'admitted',
}
const noLimits = {
  device: 'none',
  deviceReadings: 'none',
  deviceBytes: 'none',
  fleet: 'none',
  fleetReadings: 'none',
  fleetBytes: 'none',
  tenant: 'none',
  tenantReadings: 'none',
  tenantBytes: 'none',
  all: 'none',
  allReadings: 'none',
  allBytes: 'none',
  catchUpDevice: 'none',
  catchUpFleet: 'none',
  catchUpTenant: 'none',
  firstSightDevices: 10,
  firstSightPerMinute: 60,
}

/** An event log in memory that tests can stop, and that keeps what was appended in order. */
class HeldEventLog implements EventLog {
  readonly kind = 'direct'
  readonly ackLevel = 'committed'
  readonly events: TelemetryEvent[] = []
  readonly deadLetters: DeadLetter[] = []
  batches = 0
  failure: BridgeError | undefined
  gate: Promise<void> = Promise.resolve()
  readonly close = handleOf(() => Promise.resolve()).close
  readonly [Symbol.asyncDispose] = () => this.close()

  async append(events: readonly TelemetryEvent[], deadLetters: readonly DeadLetter[]): Promise<void> {
    this.batches++
    await this.gate
    if (this.failure !== undefined) throw this.failure
    this.events.push(...events)
    this.deadLetters.push(...deadLetters)
  }

  awayMs(): number {
    return 0
  }
}

class Sent implements Envelope {
  readonly ingress: Ingress
  readonly lane: Lane | undefined
  readonly holdUntilMs: number
  readonly verdict: Promise<Verdict>
  settlements = 0
  settle!: (verdict: Verdict) => void

  constructor(ingress: Ingress, lane?: Lane, holdMs = 0) {
    this.ingress = ingress
    this.lane = lane
    this.holdUntilMs = holdMs === 0 ? 0 : performance.now() + holdMs
    this.verdict = new Promise((resolve) => {
      this.settle = (verdict) => {
        this.settlements++
        resolve(verdict)
      }
    })
  }
}

function principal(device: string, fleet = false): Principal {
  return {
    tenant: 'default',
    device,
    fleet,
    credentialId: device,
    operator: false,
    expiresAtMs: Number.POSITIVE_INFINITY,
    allows: (other) => fleet || other === device,
  }
}

function message(device: string, body: string, more: Partial<Ingress> = {}): Ingress {
  return {
    principal: principal(device),
    source: 'mqtt',
    topic: 'devices/me/telemetry',
    contentType: undefined,
    payload: Buffer.from(body),
    device: undefined,
    fleetItem: false,
    acknowledgesParked: false,
    ingestTimeUs: Date.now() * 1000,
    arrivedAtMs: performance.now(),
    ...more,
  }
}

interface Rig {
  pipeline: RunningPipeline
  log: HeldEventLog
  text(): Promise<string>
}

const roomForAll = new ParkedBytes({ deviceBytes: Number.MAX_SAFE_INTEGER, tenantBytes: Number.MAX_SAFE_INTEGER })

async function rig(limits: Partial<typeof noLimits> = {}, parkedQuota = roomForAll): Promise<Rig> {
  const log = new HeldEventLog()
  const metrics = createMetrics('test')
  const pipeline = createPipeline({
    rateLimiter: await startMemoryRateLimiter(configuredPolicy(rulesOf({ ...noLimits, ...limits }))),
    normalizer: createNormalizer({ retentionMs: undefined, authenticator }),
    eventLog: log,
    accounts: createAccounts(metrics),
    limitBooks: createLimitBooks({ metrics, log: silentLog }),
    parkedQuota,
    log: silentLog,
  })
  return { pipeline, log, text: () => metrics.registry.metrics() }
}

function push<Item extends Envelope>(pipeline: RunningPipeline, ...items: Item[]): Item[] {
  for (const item of items) pipeline.push(item)
  return items
}

describe('the pipeline', () => {
  it('settles stored, parked, ignored and refused, each once, and never inside push', async () => {
    const { pipeline, log, text } = await rig()
    const sent = push(
      pipeline,
      new Sent(message('a', '{"values":{"t":1}}')),
      new Sent(message('a', 'not json {')),
      new Sent(message('a', '{broken')),
      new Sent(message('a', '{}')),
      new Sent(message('a', '{"device_id":"b","t":1}')),
    )
    expect(sent.map(({ settlements }) => settlements)).toEqual([0, 0, 0, 0, 0])
    const verdicts = await Promise.all(sent.map(({ verdict }) => verdict))
    expect(verdicts.map(({ kind }) => kind)).toEqual(['stored', 'stored', 'parked', 'ignored', 'refused'])
    expect(verdicts[2]).toMatchObject({ code: 'malformed', deadLetterId: log.deadLetters[0]?.id })
    expect(verdicts[4]).toMatchObject({ code: 'not_allowed' })
    expect(sent.map(({ settlements }) => settlements)).toEqual([1, 1, 1, 1, 1])
    expect(log.batches).toBe(1)
    expect(log.events).toHaveLength(2)
    const metrics = await text()
    expect(metrics).toContain('fleetbridge_received_messages_total{source="mqtt"} 5')
    expect(metrics).toContain('fleetbridge_messages_total{source="mqtt",result="accepted",reason=""} 2')
    expect(metrics).toContain('fleetbridge_messages_total{source="mqtt",result="refused",reason="malformed"} 1')
    expect(metrics).toContain('fleetbridge_messages_total{source="mqtt",result="ignored",reason=""} 1')
    expect(metrics).toContain('fleetbridge_in_hand_messages 0')
  })

  it('counts a parked message that its sender takes for stored as accepted', async () => {
    const { pipeline, text } = await rig()
    const [sent] = push(pipeline, new Sent(message('a', '{broken', { acknowledgesParked: true })))
    expect(await sent?.verdict).toMatchObject({ kind: 'parked' })
    expect(await text()).toContain('fleetbridge_messages_total{source="mqtt",result="accepted",reason=""} 1')
  })

  it('acknowledges nothing before the event log has answered', async () => {
    const { pipeline, log } = await rig()
    let open = () => {}
    log.gate = new Promise((resolve) => (open = resolve))
    const [sent] = push(pipeline, new Sent(message('a', '{"values":{"t":1}}')))
    await sleep(30)
    expect(sent?.settlements).toBe(0)
    open()
    expect(await sent?.verdict).toEqual({ kind: 'stored' })
  })

  it.each([
    ['BRIDGE_EVENT_LOG_UNAVAILABLE', 'event_log_unavailable'],
    ['BRIDGE_EVENT_LOG_FULL', 'queue_full'],
  ] as const)('refuses with a code when the log says %s', async (code, reason) => {
    const { pipeline, log } = await rig()
    log.failure = new BridgeError(code, 'away')
    const [sent] = push(pipeline, new Sent(message('a', '{"values":{"t":1}}')))
    expect(await sent?.verdict).toMatchObject({ kind: 'refused', code: reason })
  })

  it('refuses at once over a limit without a lane, and names the limit and the wait', async () => {
    const { pipeline } = await rig({ device: '1:10' })
    const [first, second] = push(
      pipeline,
      new Sent(message('a', '{"values":{"t":1}}')),
      new Sent(message('a', '{"values":{"t":2}}')),
    )
    expect(await first?.verdict).toEqual({ kind: 'stored' })
    const refused = await second?.verdict
    expect(refused).toMatchObject({ kind: 'refused', code: 'rate_limited', limit: 'device' })
    expect(refused?.kind === 'refused' && refused.waitMs).toBeGreaterThan(5000)
  })

  it('holds a lane at a limit and keeps its order, while others pass', async () => {
    const { pipeline, log } = await rig({ device: '20:1', deviceBytes: '1000:1' })
    const lane = new Lane()
    const many = Array.from(
      { length: 40 },
      (_, index) =>
        new Sent(
          message('a', `{"values":{"n":${index}},"pad":"${'x'.repeat(index % 7 === 0 ? 120 : 1)}"}`),
          lane,
          10_000,
        ),
    )
    push(pipeline, ...many)
    const [other] = push(pipeline, new Sent(message('b', '{"values":{"t":1}}'), new Lane(), 10_000))
    expect(await other?.verdict).toEqual({ kind: 'stored' })
    expect(many.filter(({ settlements }) => settlements === 1).length).toBeLessThan(40)
    await Promise.all(many.map(({ verdict }) => verdict))
    const order = log.events.filter(({ device }) => device === 'a').map(({ readings }) => readings[0]?.value)
    expect(order).toEqual(many.map((_, index) => index))
  })

  it('refuses a held message at its deadline, and what stood behind it with it', async () => {
    const { pipeline, log } = await rig({ device: '1:60' })
    const lane = new Lane()
    const [first, second, third] = push(
      pipeline,
      new Sent(message('a', '{"values":{"n":1}}'), lane, 200),
      new Sent(message('a', '{"values":{"n":2}}'), lane, 200),
      new Sent(message('a', '{"values":{"n":3}}'), lane, 10_000),
    )
    const started = performance.now()
    expect(await first?.verdict).toEqual({ kind: 'stored' })
    expect(await second?.verdict).toMatchObject({ kind: 'refused', code: 'rate_limited', limit: 'device' })
    expect(performance.now() - started).toBeGreaterThan(150)
    expect(await third?.verdict).toMatchObject({ kind: 'refused', code: 'rate_limited' })
    expect(log.events).toHaveLength(1)
  })

  it('drops QoS 0 behind a held message instead of holding it', async () => {
    const { pipeline } = await rig({ device: '1:60' })
    const lane = new Lane()
    const [, , qos0] = push(
      pipeline,
      new Sent(message('a', '{"values":{"n":1}}'), lane, 500),
      new Sent(message('a', '{"values":{"n":2}}'), lane, 500),
      new Sent(message('a', '{"values":{"n":3}}'), lane, 0),
    )
    expect(await qos0?.verdict).toMatchObject({ kind: 'refused', code: 'rate_limited', limit: 'device' })
  })

  it('refuses held messages of a closed connection', async () => {
    const { pipeline } = await rig({ device: '1:60' })
    const lane = new Lane()
    const [, held] = push(
      pipeline,
      new Sent(message('a', '{"values":{"n":1}}'), lane, 60_000),
      new Sent(message('a', '{"values":{"n":2}}'), lane, 300),
    )
    await sleep(50)
    lane.closed = true
    expect(await held?.verdict).toMatchObject({ kind: 'refused' })
  })

  it('charges readings after decoding, and a child device behind a fleet credential for itself', async () => {
    const { pipeline } = await rig({ deviceReadings: '3:60', device: '1:60' })
    const fleet = principal('gw', true)
    const [wide, next] = push(
      pipeline,
      new Sent(message('a', '{"values":{"p":1,"q":2,"r":3}}')),
      new Sent(message('gw', '{"device":"c","t":1}', { principal: fleet, topic: 'x/y' })),
    )
    expect(await wide?.verdict).toEqual({ kind: 'stored' })
    expect(await next?.verdict).toEqual({ kind: 'stored' })
    const [again, other] = push(
      pipeline,
      new Sent(message('gw', '{"device":"c","t":2}', { principal: fleet, topic: 'x/y' })),
      new Sent(message('gw', '{"device":"d","t":2}', { principal: fleet, topic: 'x/y' })),
    )
    expect(await again?.verdict).toMatchObject({ kind: 'refused', limit: 'device' })
    expect(await other?.verdict).toEqual({ kind: 'stored' })
  })

  it('close refuses what is held and waits for the log', async () => {
    const { pipeline, log } = await rig({ device: '1:60' })
    let open = () => {}
    log.gate = new Promise((resolve) => (open = resolve))
    const lane = new Lane()
    const [first, held] = push(
      pipeline,
      new Sent(message('a', '{"values":{"n":1}}'), lane, 60_000),
      new Sent(message('a', '{"values":{"n":2}}'), lane, 60_000),
    )
    await sleep(20)
    let closed = false
    const closing = pipeline.close().then(() => (closed = true))
    expect(await held?.verdict).toMatchObject({ kind: 'refused', code: 'shutting_down' })
    expect(closed).toBe(false)
    open()
    await closing
    expect(await first?.verdict).toEqual({ kind: 'stored' })
  })
})

describe('at the quota of parked bytes', () => {
  const quotas = () => new ParkedBytes({ deviceBytes: 400, tenantBytes: 1000 })

  it('what cannot be decoded is over a limit, what can passes, and another device is not meant', async () => {
    const { pipeline, log, text } = await rig({}, quotas())
    const bodies = ['{', '{', '{"values":{"t":1}}']
    const sent = push(pipeline, ...bodies.map((body) => new Sent(message('a', body))), new Sent(message('b', '{')))
    const verdicts = await Promise.all(sent.map(({ verdict }) => verdict))
    expect(verdicts).toMatchObject([
      { kind: 'parked' },
      { kind: 'refused', code: 'rate_limited', limit: 'device_parked_bytes', waitMs: 30_000 },
      { kind: 'stored' },
      { kind: 'parked' },
    ])
    expect(log.deadLetters).toHaveLength(2)
    expect(await text()).toContain('fleetbridge_messages_total{source="mqtt",result="refused",reason="rate_limited"} 1')
  })

  it('a connection is held, and then refused with all that stands behind', async () => {
    const { pipeline, log } = await rig({}, quotas())
    const lane = new Lane()
    const startedAt = performance.now()
    const sent = push(
      pipeline,
      ...['{', '{', '{"values":{"t":1}}'].map((body) => new Sent(message('a', body), lane, 200)),
    )
    const verdicts = await Promise.all(sent.map(({ verdict }) => verdict))
    expect(verdicts.map(({ kind }) => kind)).toEqual(['parked', 'refused', 'refused'])
    expect(performance.now() - startedAt).toBeGreaterThan(150)
    expect([lane.closed, log.events]).toEqual([true, []])
  })

  it('a held message passes when room was made meanwhile, and what stands behind it keeps its order', async () => {
    const bytes = quotas()
    const { pipeline, log } = await rig({}, bytes)
    const lane = new Lane()
    const sent = push(
      pipeline,
      ...['{', '{', '{"values":{"t":1}}'].map((body) => new Sent(message('a', body), lane, 300)),
    )
    await sent[0]?.verdict
    // As after a purge: the database holds nothing any more, and what was parked here is read.
    bytes.read(new Map())
    bytes.read(new Map())
    expect((await Promise.all(sent.map(({ verdict }) => verdict))).map(({ kind }) => kind)).toEqual([
      'parked',
      'parked',
      'stored',
    ])
    expect(log.deadLetters).toHaveLength(2)
  })
})
