import { afterEach, expect, it } from 'vitest'
import { handleOf } from '#platform/handle.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { createAccounts } from '../accounts.ts'
import type { EventLog } from '../event-log/event-log.ts'
import { createLimitBooks } from '../limit-books.ts'
import { createNormalizer } from '../normalize/create-normalizer.ts'
import { createPipeline } from '../pipeline.ts'
import { configuredPolicy } from '../rate-limit/limit-policy.ts'
import { rulesOf } from '../rate-limit/limits.ts'
import { startMemoryRateLimiter } from '../rate-limit/memory-rate-limiter.ts'
import { type MqttSource, startMqttSource } from './mqtt-source.ts'
import { RawClient } from './testing/raw-client.ts'
import { mqttDefaults, TestAuthenticator } from './testing/source.ts'

const limits = {
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

let stop: (() => Promise<void>) | undefined
afterEach(() => stop?.())

/** The source before the real limits, decoder and pipeline; only the event log is an array. */
async function start(limit: Partial<typeof limits>, holdMs = 800) {
  const events: TelemetryEvent[] = []
  const deadLetters: DeadLetter[] = []
  const authenticator = new TestAuthenticator()
  const eventLog: EventLog = {
    ...handleOf(() => Promise.resolve()),
    kind: 'direct',
    ackLevel: 'committed',
    awayMs: () => 0,
    append(batch, dead) {
      events.push(...batch)
      deadLetters.push(...dead)
      return Promise.resolve()
    },
  }
  const metrics = createMetrics('test')
  const accounts = createAccounts(metrics)
  const pipeline = createPipeline({
    rateLimiter: await startMemoryRateLimiter(configuredPolicy(rulesOf({ ...limits, ...limit }))),
    normalizer: createNormalizer({ retentionMs: undefined, authenticator }),
    eventLog,
    accounts,
    limitBooks: createLimitBooks({ metrics, log: silentLog }),
    log: silentLog,
  })
  const source: MqttSource = await startMqttSource(
    { ...mqttDefaults(), port: 0, host: '127.0.0.1', holdMs },
    {
      pipeline,
      authenticator,
      log: silentLog,
      metrics,
      countRefused: (reason) => accounts.turnedAway('mqtt', reason),
    },
  )
  stop = async () => {
    await Promise.all([source.close(), pipeline.close()])
    expect(accounts.inHand(), 'the books balance').toBe(0)
  }
  return { port: source.port, events, deadLetters }
}

it.each([4, 5] as const)(
  'level %d: a device over its limit is held, then closed without a PUBACK; what it re-sends is one record',
  async (version) => {
    const { port, events } = await start({ device: '2:2' })
    const client = await RawClient.connect(port, 'pump-1', version, { clean: false })
    for (let n = 1; n <= 8; n++) client.publish(n, `{"n":${n}}`)
    await client.closed()
    const acknowledged = client.answers.map(([id]) => id)
    expect(acknowledged.length).toBeGreaterThanOrEqual(2)
    expect(acknowledged.length).toBeLessThan(8)
    expect(client.packets.at(-1)?.cmd).toBe(version === 5 ? 'disconnect' : 'puback')
    const missing = [1, 2, 3, 4, 5, 6, 7, 8].filter((n) => !acknowledged.includes(n))
    for (let tries = 0; missing.length > 0 && tries < 10; tries++) {
      const again = await RawClient.connect(port, 'pump-1', version, { clean: false })
      for (const n of missing) again.publish(n, `{"n":${n}}`, { dup: true })
      await expect.poll(() => again.isClosed || again.answers.length === missing.length, { timeout: 5000 }).toBe(true)
      for (const [id] of again.answers) missing.splice(missing.indexOf(id), 1)
      again.destroy()
    }
    expect(events.map(({ readings }) => readings[0]?.value)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  },
)

it('a fleet credential over its limit is held past the hold time, in order, and never closed', async () => {
  const { port, events } = await start({ fleet: '5:1' }, 300)
  const client = await RawClient.connect(port, 'gw-1', 5)
  for (let n = 1; n <= 15; n++) client.publish(n, `{"n":${n}}`, { topic: `devices/kid-${n}/telemetry` })
  expect(await client.answered(15, 6000)).toEqual(Array.from({ length: 15 }, (_, n) => [n + 1, 0]))
  expect(events.map(({ device }) => device)).toEqual(Array.from({ length: 15 }, (_, n) => `kid-${n + 1}`))
})

it('a fleet body: children are records of their own, one outside of the pattern is parked', async () => {
  const { port, events, deadLetters } = await start({})
  const client = await RawClient.connect(port, 'gw-1', 5)
  client.publish(1, '{"kid-1":[{"t":1},{"t":2}],"stranger":[{"t":3}],"kid-2":["broken"]}', {
    topic: 'gateways/me/telemetry',
  })
  expect(await client.answered(1)).toEqual([[1, 0]])
  expect(events.map(({ device, gateway, readings }) => [device, gateway, readings.length])).toEqual([
    ['kid-1', 'gw-1', 2],
  ])
  expect(deadLetters.map(({ code, acknowledged }) => [code, acknowledged])).toEqual([
    ['not_allowed', true],
    ['bad_value', true],
  ])
})

it('the same bytes refused twice on 3.1.1 are parked as they came', async () => {
  const { port, deadLetters } = await start({})
  for (let n = 1; n <= 3; n++) {
    const client = await RawClient.connect(port, 'pump-1', 4)
    client.publish(1, '{"device":"pump-2","t":1}')
    if (n < 3) await client.closed()
    else expect(await client.answered(1)).toEqual([[1, 0]])
    client.destroy()
  }
  expect(deadLetters).toMatchObject([{ code: 'not_allowed', device: 'pump-1', acknowledged: true }])
})
