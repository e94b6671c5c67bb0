import { pino } from 'pino'
import { describe, expect, it, onTestFinished } from 'vitest'
import { handleOf } from '#platform/handle.ts'
import { createMetrics } from '#platform/metrics.ts'
import { createAccounts } from './accounts.ts'
import { type Envelope, Lane } from './envelope.ts'
import { createLimitBooks } from './limit-books.ts'
import { createNormalizer } from './normalize/create-normalizer.ts'
import { createPipeline } from './pipeline.ts'
import { LimitOverrides } from './rate-limit/limit-overrides.ts'
import { startMemoryRateLimiter } from './rate-limit/memory-rate-limiter.ts'
import { limitsOf } from './rate-limit/rate-limiter.contract.ts'
import type { Verdict } from './verdict.ts'

/** A pipeline with these limits, which takes everything else. */
async function rig(limits: Parameters<typeof limitsOf>[0]) {
  const metrics = createMetrics('test')
  const lines: string[] = []
  const log = pino({}, { write: (line: string) => lines.push(line) })
  const limitBooks = createLimitBooks({ metrics, log })
  const overrides = new LimitOverrides(limitsOf(limits))
  const pipeline = createPipeline({
    rateLimiter: await startMemoryRateLimiter(overrides),
    normalizer: createNormalizer({ retentionMs: undefined, authenticator: { admitDevice: () => 'admitted' } }),
    eventLog: {
      ...handleOf(() => Promise.resolve()),
      kind: 'direct',
      ackLevel: 'committed',
      awayMs: () => 0,
      append: () => Promise.resolve(),
    },
    accounts: createAccounts(metrics),
    limitBooks,
    log,
  })
  onTestFinished(async () => {
    await pipeline.close()
    limitBooks.close()
  })
  return { pipeline, metrics, lines, overrides }
}

const body = '{"values":{"t":1,"u":2}}'

interface Sent extends Envelope {
  readonly verdict: Promise<Verdict>
}

/** @param holdMs 0: not held at its own limit; undefined: neither there nor at one that others share */
function message(device: string, lane?: Lane, holdMs?: number, tenant = 'default'): Sent {
  const arrivedAtMs = performance.now()
  let settle: (verdict: Verdict) => void = () => {}
  const verdict = new Promise<Verdict>((resolve) => (settle = resolve))
  return {
    ingress: {
      principal: {
        tenant,
        device,
        fleet: false,
        operator: false,
        credentialId: device,
        expiresAtMs: Number.POSITIVE_INFINITY,
        allows: () => true,
      },
      source: 'mqtt',
      topic: 'devices/me/telemetry',
      contentType: undefined,
      payload: Buffer.from(body),
      device: undefined,
      fleetItem: false,
      acknowledgesParked: false,
      ingestTimeUs: Date.now() * 1000,
      arrivedAtMs,
    },
    lane,
    holdUntilMs: holdMs ? arrivedAtMs + holdMs : 0,
    holdsShared: holdMs !== undefined,
    settle,
    verdict,
  }
}

describe('a limit that others share', () => {
  it.each([200, 0])('holds until its turn, beyond any hold of its own (%d ms)', async (holdMs) => {
    const { pipeline } = await rig({ tenant: '1:1' })
    const lane = new Lane()
    const sent = [message('a', lane, holdMs), message('a', lane, holdMs), message('a', lane, holdMs)]
    const startedMs = performance.now()
    for (const one of sent) pipeline.push(one)
    expect((await Promise.all(sent.map(({ verdict }) => verdict))).map(({ kind }) => kind)).toEqual(
      new Array(3).fill('stored'),
    )
    expect(performance.now() - startedMs).toBeGreaterThan(1800)
    expect(lane.closed).toBe(false)
  })

  it('may be one of the whole installation, over all tenants', async () => {
    const { pipeline, metrics } = await rig({ all: '2:1' })
    const lanes = [new Lane(), new Lane()]
    const sent = Array.from({ length: 6 }, (_, n) => message('esp32', lanes[n % 2], 200, `t-${n % 2}`))
    const startedMs = performance.now()
    for (const one of sent) pipeline.push(one)
    for (const { verdict } of sent) expect(await verdict).toEqual({ kind: 'stored' })
    expect(performance.now() - startedMs).toBeGreaterThan(1800)
    expect(await metrics.registry.metrics()).toContain('fleetbridge_limit_asked_total{limit="all"} 6')
  })

  it('is not the time of a hold of its own, which begins anew after it', async () => {
    const { pipeline, overrides } = await rig({ tenant: '1:3600', device: '2:1' })
    const lane = new Lane()
    const sent = Array.from({ length: 4 }, () => message('a', lane, 700))
    for (const one of sent) pipeline.push(one)
    await new Promise((resolve) => setTimeout(resolve, 900))
    overrides.take([{ tenant: 'default', deviceType: null, device: null, setting: 'tenant', windows: 'none' }])
    // Two pass at once, and the third has to wait for half a second at its own limit.
    for (const { verdict } of sent) expect(await verdict).toEqual({ kind: 'stored' })
  })

  it('refuses what cannot wait: HTTP, and QoS 0 also behind others', async () => {
    const { pipeline } = await rig({ tenant: '1:60' })
    const lane = new Lane()
    const [, held, behind, alone] = [message('a', lane, 200), message('a', lane, 200), message('a', lane), message('b')]
    for (const one of [message('a', lane, 200), held, behind, alone]) pipeline.push(one)
    for (const { verdict } of [behind, alone])
      expect(await verdict).toMatchObject({ kind: 'refused', code: 'rate_limited', limit: 'tenant' })
    expect(await Promise.race([held.verdict, new Promise((resolve) => setTimeout(resolve, 500, 'held'))])).toBe('held')
  })

  it('that is raised meanwhile lets go what it holds within moments', async () => {
    const { pipeline, overrides } = await rig({ tenant: '1:3600' })
    const lane = new Lane()
    const [first, second] = [message('a', lane, 200), message('a', lane, 200)]
    pipeline.push(first)
    pipeline.push(second)
    expect(await first.verdict).toEqual({ kind: 'stored' })
    overrides.take([{ tenant: 'default', deviceType: null, device: null, setting: 'tenant', windows: '100:1' }])
    const startedMs = performance.now()
    expect(await second.verdict).toEqual({ kind: 'stored' })
    expect(performance.now() - startedMs).toBeLessThan(1900)
  })
})

it('counts what came to each limit and what passed, once, and names who is stopped once', async () => {
  const { pipeline, metrics, lines } = await rig({ device: '3:3600', tenantReadings: '1000:1' })
  const sent = Array.from({ length: 10 }, () => message('pump-1'))
  for (const one of sent) pipeline.push(one)
  await Promise.all(sent.map(({ verdict }) => verdict))
  const lane = new Lane()
  const held = message('pump-1', lane, 300) // asks several times while it is held
  pipeline.push(held)
  expect(await held.verdict).toMatchObject({ kind: 'refused', limit: 'device' })
  const text = await metrics.registry.metrics()
  const count = (name: string, limit: string) =>
    Number(new RegExp(`^${name}{limit="${limit}"} (\\S+)$`, 'm').exec(text)?.[1])
  expect(count('fleetbridge_limit_asked_total', 'device')).toBe(11)
  expect(count('fleetbridge_limit_passed_total', 'device')).toBe(3)
  expect(count('fleetbridge_limit_asked_total', 'device_bytes')).toBe(11 * body.length)
  expect(count('fleetbridge_limit_asked_total', 'tenant_readings')).toBe(6)
  expect(count('fleetbridge_limit_passed_total', 'tenant_readings')).toBe(6)
  expect(count('fleetbridge_limit_asked_total', 'fleet')).toBe(0)
  expect(count('fleetbridge_limit_stopped_messages_total', 'device')).toBe(8)
  expect(count('fleetbridge_limit_refused_messages_total', 'device')).toBe(8)
  expect(text).not.toContain('pump-1')
  await expect.poll(() => lines.filter((line) => line.includes('more than a limit allows')).length).toBe(1)
  expect(JSON.parse(lines[0] as string)).toMatchObject({
    level: 40,
    devices: [{ tenant: 'default', device: 'pump-1', limit: 'device', messages: expect.any(Number) }],
  })
})
