import { expect, it } from 'vitest'
import { handleOf } from '#platform/handle.ts'
import { createClock } from './clock.ts'
import { Outbox } from './outbox.ts'
import { createPayloadMaker } from './payload.ts'
import { seededRandom } from './random.ts'
import { createSchedule } from './schedule.ts'
import { runClosedLoop, runOpenLoop } from './simulation.ts'
import type { Transport } from './transport.ts'

const devices = 7

/** A transport whose other side answers `answerAfterMs` later, or never; it notes when each message was handed to it. */
function run(options: { answerAfterMs?: number; blockMs?: number } = {}) {
  const clock = createClock()
  const outbox = new Outbox({ devices, payloads: createPayloadMaker(1, 1), clock })
  const handedOver: { device: number; number: number; atUs: number }[] = []
  const answer = (device: number, number: number) => {
    outbox.acknowledged(device, number)
    if (outbox.endless) send(device)
  }
  const send = (device: number) => {
    const number = outbox.take(device)
    handedOver.push({ device, number, atUs: clock.nowUs() })
    if (options.blockMs !== undefined && handedOver.length === 1) {
      const end = performance.now() + options.blockMs
      while (performance.now() < end);
    }
    if (options.answerAfterMs !== undefined) setTimeout(answer, options.answerAfterMs, device, number)
  }
  const transport: Transport = {
    protocol: 'mqtt',
    start: async () => {},
    send,
    inFlight: () => 0,
    connected: () => devices,
    ...handleOf(async () => {}),
  }
  const schedule = createSchedule({ devices, rate: 1000, durationMs: 300, random: seededRandom(1) })
  const limits = { drainMs: 100, signal: new AbortController().signal }
  return { clock, outbox, handedOver, transport, schedule, limits }
}

it('hands every message over, none before its time, and its event time is that time, though nobody answers', async () => {
  const { clock, outbox, handedOver, transport, schedule, limits } = run()
  const startUs = clock.nowUs()
  const result = await runOpenLoop(schedule, transport, outbox, () => clock.nowUs(), limits)
  expect(outbox.journal.totals()).toEqual({ due: 300, sent: 300, acknowledged: 0, refused: 0 })
  expect(handedOver).toHaveLength(300)
  const times = handedOver.map(({ device, number }) => outbox.journal.timeOf(device, number))
  const firstUs = times[0] as number
  expect(firstUs).toBeGreaterThanOrEqual(Math.floor(startUs))
  for (const [n, { atUs }] of handedOver.entries()) {
    expect(times[n], `message ${n}`).toBeCloseTo(firstUs + n * 1000, -1)
    expect(atUs, `message ${n}`).toBeGreaterThanOrEqual((times[n] as number) - 1)
  }
  expect(result.stopped).toBe(false)
  expect(result.durationMs).toBeGreaterThanOrEqual(299)
  expect(result.drainedMs).toBeGreaterThanOrEqual(100)
})

it('counts the wait from the intended time when it was late itself', async () => {
  const { clock, outbox, transport, schedule, limits } = run({ answerAfterMs: 0, blockMs: 150 })
  await runOpenLoop(schedule, transport, outbox, () => clock.nowUs(), { ...limits, drainMs: 5000 })
  expect(outbox.journal.totals()).toMatchObject({ due: 300, acknowledged: 300 })
  // Some 150 messages came due while it was blocked, and waited 75 ms on average.
  expect(outbox.tally.ackMs()?.max).toBeGreaterThanOrEqual(140)
  expect(outbox.tally.ackMs()?.p50).toBeGreaterThan(0)
  expect(outbox.tally.paceMs()?.max).toBeGreaterThanOrEqual(140)
})

it('stops at once when it is told to, and then waits for answers that are under way', async () => {
  const { clock, outbox, transport, schedule, limits } = run({ answerAfterMs: 50 })
  const stop = new AbortController()
  const { send } = transport
  const stopping: Transport = {
    ...transport,
    send(device) {
      send(device)
      if (outbox.journal.totals().due === 50) stop.abort()
    },
  }
  const result = await runOpenLoop(schedule, stopping, outbox, () => clock.nowUs(), {
    ...limits,
    drainMs: 5000,
    signal: stop.signal,
  })
  expect(result.stopped).toBe(true)
  expect(outbox.journal.totals()).toMatchObject({ due: 50, acknowledged: 50 })
})

it('keeps one message of each device under way in a closed loop, numbered and timed without gaps', async () => {
  const { outbox, handedOver, transport, limits } = run({ answerAfterMs: 5 })
  const result = await runClosedLoop(200, transport, outbox, limits)
  const { due, sent, acknowledged } = outbox.journal.totals()
  expect([sent, acknowledged]).toEqual([due, due])
  expect(due).toBeGreaterThan(devices)
  expect(result.durationMs).toBeGreaterThanOrEqual(200)
  for (let device = 0; device < devices; device++) {
    const numbers = handedOver.filter((one) => one.device === device).map(({ number }) => number)
    expect(numbers).toEqual(numbers.map((_, index) => index + 1))
  }
  expect(outbox.take(0), 'nothing is made after the end').toBe(0)
})
