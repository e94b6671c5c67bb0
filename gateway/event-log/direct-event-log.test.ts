import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { startDirectEventLog, type WriteDirect } from './direct-event-log.ts'
import { type EventLogUnderTest, eventOf, testEventLog } from './event-log.contract.ts'

/** A durable writer small enough to see through: a line a batch, synchronised to the disk before it resolves. */
async function fileLog(): Promise<EventLogUnderTest & { write: WriteDirect; writes: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'fleetbridge-direct-'))
  const path = join(folder, 'log')
  const file = await open(path, 'a')
  let frozen: PromiseWithResolvers<void> | undefined
  let inHand = false
  const lines = async () =>
    (await readFile(path, 'utf8'))
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as { events: TelemetryEvent[]; deadLetters: (DeadLetter & { hex: string })[] })
  const under = {
    writes: 0,
    async write(events: readonly TelemetryEvent[], deadLetters: readonly DeadLetter[]) {
      expect(inHand, 'one write at a time').toBe(false)
      inHand = true
      under.writes++
      await frozen?.promise
      const letters = deadLetters.map((letter) => ({ ...letter, hex: letter.payload?.toString('hex') }))
      await file.appendFile(`${JSON.stringify({ events, deadLetters: letters })}\n`)
      await file.datasync()
      inHand = false
    },
    open: (options: object) =>
      startDirectEventLog(under.write, { log: silentLog, metrics: createMetrics('test'), ...options }),
    async numbers() {
      const numbers = new Map<string, number[]>()
      for (const { events } of await lines())
        for (const { device, readings } of events) {
          const own = numbers.get(device) ?? []
          numbers.set(device, own)
          for (const { value } of readings) own.push(value as number)
        }
      return numbers
    },
    async deadLetters() {
      const all = (await lines()).flatMap(({ deadLetters }) => deadLetters)
      return all.map(({ id, code, hex }) => ({ id, code, payload: Buffer.from(hex, 'hex') }))
    },
    freeze() {
      frozen = Promise.withResolvers<void>()
      return { [Symbol.dispose]: () => under.restore() }
    },
    restore() {
      frozen?.resolve()
      frozen = undefined
    },
    async [Symbol.asyncDispose]() {
      await file.close()
      await rm(folder, { recursive: true })
    },
  }
  return under
}

testEventLog('direct', fileLog)

it('joins everything that came during a write into the next one', async () => {
  await using under = await fileLog()
  await using log = await under.open({})
  using _frozen = under.freeze()
  const appends = [log.append([eventOf('a', 0)], [])]
  await new Promise((resolve) => setTimeout(resolve, 20))
  for (let number = 1; number < 200; number++) appends.push(log.append([eventOf('a', number)], []))
  under.restore()
  await Promise.all(appends)
  expect(under.writes).toBe(2)
})

it('refuses what a write failed with, is away until one succeeds, and goes on', async () => {
  await using under = await fileLog()
  let broken = true
  const write: WriteDirect = (...batch) => (broken ? Promise.reject(new Error('no')) : under.write(...batch))
  await using log = await startDirectEventLog(write, { log: silentLog, metrics: createMetrics('test') })
  await expect(log.append([eventOf('a', 1)], [])).rejects.toMatchObject({ code: 'BRIDGE_EVENT_LOG_UNAVAILABLE' })
  expect(log.awayMs()).toBeGreaterThan(0)
  broken = false
  await log.append([eventOf('a', 2)], [])
  expect(log.awayMs()).toBe(0)
  expect(await under.numbers()).toEqual(new Map([['a', [2]]]))
})

it('takes nothing while the disk is almost full', async () => {
  await using under = await fileLog()
  let room = false
  const options = { log: silentLog, metrics: createMetrics('test'), mayTake: () => room }
  await using log = await startDirectEventLog(under.write, options)
  await expect(log.append([eventOf('a', 1)], [])).rejects.toMatchObject({ code: 'BRIDGE_EVENT_LOG_UNAVAILABLE' })
  room = true
  await log.append([eventOf('a', 2)], [])
})

it('finds out without traffic that the database is away, and that it is back', async () => {
  let answers = false
  const ping = () => (answers ? Promise.resolve() : Promise.reject(new Error('away')))
  await using log = await startDirectEventLog(() => Promise.resolve(), {
    log: silentLog,
    metrics: createMetrics('test'),
    ping,
  })
  await expect.poll(() => log.awayMs(), { timeout: 9000, interval: 200 }).toBeGreaterThan(500)
  answers = true
  await expect.poll(() => log.awayMs(), { timeout: 3000, interval: 200 }).toBe(0)
})
