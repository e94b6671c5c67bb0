import { expect, it, onTestFinished } from 'vitest'
import { handleOf } from '#platform/handle.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { createAccounts } from './accounts.ts'
import type { Authenticator } from './auth/authenticator.ts'
import { catchesUp } from './catch-up.ts'
import { type Envelope, Lane } from './envelope.ts'
import type { EventLog } from './event-log/event-log.ts'
import type { Charge, Ingress } from './ingress.ts'
import { createLimitBooks } from './limit-books.ts'
import { createNormalizer } from './normalize/create-normalizer.ts'
import { createPipeline } from './pipeline.ts'
import { startMemoryRateLimiter } from './rate-limit/memory-rate-limiter.ts'
import { limitsOf, policyOf } from './rate-limit/rate-limiter.contract.ts'
import type { Verdict } from './verdict.ts'

const authenticator: Pick<Authenticator, 'admitDevice'> = { admitDevice: () => 'admitted' }

async function start(limits: Parameters<typeof policyOf>[0]) {
  const stored: string[] = []
  const eventLog: EventLog = {
    ...handleOf(() => Promise.resolve()),
    kind: 'direct',
    ackLevel: 'committed',
    awayMs: () => 0,
    append(events) {
      for (const { device, readings } of events) stored.push(`${device}:${readings[0]?.value}`)
      return Promise.resolve()
    },
  }
  const rateLimiter = await startMemoryRateLimiter(policyOf(limits))
  const pipeline = createPipeline({
    rateLimiter,
    normalizer: createNormalizer({ retentionMs: undefined, authenticator }),
    eventLog,
    accounts: createAccounts(createMetrics('test')),
    limitBooks: createLimitBooks({ metrics: createMetrics('test'), log: silentLog }),
    log: silentLog,
    catchesUp: catchesUp(limitsOf(limits)),
  })
  onTestFinished(() => pipeline.close())
  const left = (limit: string, device: string, fleet?: string) =>
    rateLimiter.known('default', fleet === undefined ? device : undefined, fleet).find((level) => level.limit === limit)
      ?.left
  return { pipeline, stored, left }
}

class Sent implements Envelope {
  readonly ingress: Ingress
  readonly lane: Lane | undefined
  readonly holdUntilMs: number
  readonly verdict: Promise<Verdict>
  settle!: (verdict: Verdict) => void

  constructor(ingress: Ingress, lane?: Lane, holdMs = 0) {
    this.ingress = ingress
    this.lane = lane
    this.holdUntilMs = holdMs === 0 ? 0 : performance.now() + holdMs
    this.verdict = new Promise((resolve) => {
      this.settle = resolve
    })
  }
}

const minutesAgo = (minutes: number) => Date.now() - minutes * 60_000

function message(device: string, body: object, { fleet = false, charge }: { fleet?: boolean; charge?: Charge } = {}) {
  const ingress: Ingress = {
    principal: {
      tenant: 'default',
      device,
      fleet,
      credentialId: device,
      operator: false,
      expiresAtMs: Number.POSITIVE_INFINITY,
      allows: () => true,
    },
    source: 'mqtt',
    topic: fleet ? 'v1/gateway/telemetry' : 'devices/me/telemetry',
    contentType: undefined,
    payload: Buffer.from(JSON.stringify(body)),
    device: undefined,
    fleetItem: false,
    acknowledgesParked: false,
    ingestTimeUs: Date.now() * 1000,
    arrivedAtMs: performance.now(),
    charge,
  }
  return ingress
}

const old = (n: number) => ({ ts: minutesAgo(11) + n, values: { n } })
const fresh = (n: number) => ({ ts: minutesAgo(9) + n, values: { n } })

it('takes a backlog from buckets of its own, and leaves those of live data as they were', async () => {
  const { pipeline, left } = await start({ device: '10:3600', tenant: '20:3600', catchUpDevice: '3:3600' })
  const sent = Array.from({ length: 5 }, (_, n) => new Sent(message('a', old(n))))
  for (const one of sent) pipeline.push(one)
  const verdicts = await Promise.all(sent.map(({ verdict }) => verdict))
  expect(verdicts.map(({ kind }) => kind)).toEqual(['stored', 'stored', 'stored', 'refused', 'refused'])
  expect(verdicts[3]).toMatchObject({ code: 'rate_limited', limit: 'catch_up_device' })
  expect((verdicts[3] as { waitMs: number }).waitMs).toBeGreaterThan(1_100_000)
  expect(left('tenant', 'a'), 'all came back').toBe(20)
  expect(left('device', 'a'), 'but for the work of decoding what was refused').toBe(8)
  const live = new Sent(message('a', fresh(1)))
  pipeline.push(live)
  expect(await live.verdict).toEqual({ kind: 'stored' })
  expect(left('tenant', 'a')).toBe(19)
  expect(left('catch_up_device', 'a')).toBe(0)
})

it('is live when one reading is', async () => {
  const { pipeline, left } = await start({ device: '10:3600', catchUpDevice: '3:3600' })
  const mixed = new Sent(
    message('a', [
      { ts: minutesAgo(30), values: { n: 1 } },
      { ts: minutesAgo(1), values: { n: 2 } },
    ]),
  )
  pipeline.push(mixed)
  expect(await mixed.verdict).toEqual({ kind: 'stored' })
  expect([left('device', 'a'), left('catch_up_device', 'a')]).toEqual([9, 3])
})

it('counts a backlog like live data when it has no buckets of its own', async () => {
  const { pipeline, left } = await start({ device: '10:3600' })
  const one = new Sent(message('a', old(1)))
  pipeline.push(one)
  expect(await one.verdict).toEqual({ kind: 'stored' })
  expect(left('device', 'a')).toBe(9)
})

it('keeps the order of a connection, whose live messages wait behind its backlog; others pass', async () => {
  const { pipeline, stored, left } = await start({ device: '50:1', tenant: '50:1', catchUpTenant: '20:1' })
  const lane = new Lane()
  const backlog = Array.from({ length: 30 }, (_, n) => new Sent(message('a', old(n)), lane, 5000))
  const behind = new Sent(message('a', fresh(99)), lane, 5000)
  const other = new Sent(message('b', fresh(1)), new Lane(), 5000)
  const startedMs = performance.now()
  for (const one of [...backlog, behind, other]) pipeline.push(one)
  expect(await other.verdict).toEqual({ kind: 'stored' })
  expect(performance.now() - startedMs).toBeLessThan(300)
  expect(left('tenant', 'b')).toBeGreaterThan(45)
  expect(await behind.verdict).toEqual({ kind: 'stored' })
  expect(performance.now() - startedMs, 'ten more at twenty a second').toBeGreaterThan(450)
  const mine = stored.filter((one) => one.startsWith('a:'))
  expect(mine).toEqual([...Array.from({ length: 30 }, (_, n) => `a:${n}`), 'a:99'])
})

it('charges a fleet and each of its devices for their own part', async () => {
  const { pipeline, left } = await start({
    device: '10:3600',
    fleet: '10:3600',
    catchUpDevice: '2:3600',
    catchUpFleet: '5:3600',
  })
  const both = { 'child-1': [old(1)], 'child-2': [fresh(1)] }
  const allOld = { 'child-1': [old(2)], 'child-3': [old(3)] }
  const sent = [both, allOld].map((body) => new Sent(message('gw', body, { fleet: true })))
  for (const one of sent) pipeline.push(one)
  expect(await Promise.all(sent.map(({ verdict }) => verdict))).toEqual([{ kind: 'stored' }, { kind: 'stored' }])
  expect(left('fleet', '', 'gw'), 'the message that is a backlog altogether gave back').toBe(9)
  expect(left('catch_up_fleet', '', 'gw')).toBe(2)
  expect(['child-1', 'child-2', 'child-3'].map((child) => left('catch_up_device', child))).toEqual([0, 2, 1])
  expect(['child-1', 'child-2', 'child-3'].map((child) => left('device', child))).toEqual([10, 9, 10])
})

it('lets the first line of a batch pay for all, so that a batch above the limit comes to its end', async () => {
  const { pipeline, left } = await start({ device: '100:3600', catchUpDevice: '5:3600' })
  const lane = new Lane()
  const lines = Array.from(
    { length: 20 },
    (_, n) => new Sent(message('a', old(n), { charge: { messages: n === 0 ? 20 : 0, bytes: 0 } }), lane, 1),
  )
  for (const one of lines) pipeline.push(one)
  const verdicts = await Promise.all(lines.map(({ verdict }) => verdict))
  expect(new Set(verdicts.map(({ kind }) => kind))).toEqual(new Set(['stored']))
  expect([left('device', 'a'), left('catch_up_device', 'a')]).toEqual([100, 0])
})
