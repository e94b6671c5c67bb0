import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import type { EventLog } from './event-log.ts'

/** An event log with what lies behind it, which tests look into and break. */
export interface EventLogUnderTest extends AsyncDisposable {
  open(options: { deadlineMs?: number; maxBufferBytes?: number }): Promise<EventLog>
  /** The values of all stored readings, those of one device in the order of the log. */
  numbers(): Promise<ReadonlyMap<string, readonly number[]>>
  deadLetters(): Promise<readonly Pick<DeadLetter, 'id' | 'code' | 'payload'>[]>
  /** Nothing is answered until `restore`, or until what it returns is disposed of: a log cannot close while its server is frozen. */
  freeze(): Disposable
  restore(): void
}

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)

/** What every EventLog promises. Each adapter's test file calls this; adapter-only facts follow it there. */
export function testEventLog(name: string, create: () => Promise<EventLogUnderTest>): void {
  describe(name, () => {
    it('has stored what it resolves, dead letters with their bytes', async () => {
      await using under = await create()
      await using log = await under.open({})
      const letter = letterOf(Buffer.from([0, 1, 0xff]))
      await log.append([eventOf('a', 1), eventOf('b', 2)], [letter])
      expect(await under.numbers()).toEqual(
        new Map([
          ['a', [1]],
          ['b', [2]],
        ]),
      )
      expect(await under.deadLetters()).toEqual([{ id: letter.id, code: letter.code, payload: letter.payload }])
      await log.append([], [])
      expect(log.awayMs()).toBe(0)
    })

    it(`keeps the order of each device over many appends (SEED=${seed})`, async () => {
      await using under = await create()
      await using log = await under.open({})
      const random = randomOf(seed)
      const appends: Promise<void>[] = []
      const expected = new Map<string, number[]>()
      for (let number = 0; number < 3000; ) {
        const events: TelemetryEvent[] = []
        for (let size = 1 + Math.floor(random() * 60); size > 0; size--) {
          const device = `d-${Math.floor(random() * 20)}`
          const own = expected.get(device) ?? []
          expected.set(device, own)
          own.push(number)
          events.push(eventOf(device, number++))
        }
        appends.push(log.append(events, []))
        if (random() < 0.3) await pause(random() * 8)
      }
      await Promise.all(appends)
      expect(await under.numbers()).toEqual(expected)
    })

    it('takes an append that is larger than a send', async () => {
      await using under = await create()
      await using log = await under.open({})
      const numbers = Array.from({ length: 6000 }, (_, number) => number)
      await log.append(
        numbers.map((number) => eventOf('a', number)),
        [],
      )
      expect(await under.numbers()).toEqual(new Map([['a', numbers]]))
    })

    it('refuses at once what its bounded buffer has no room for, and takes on when there is room', async () => {
      await using under = await create()
      await using log = await under.open({ deadlineMs: 60_000, maxBufferBytes: 100_000 })
      await log.append([eventOf('a', 0)], [])
      using _frozen = under.freeze()
      const taken: Promise<void>[] = []
      let refused: unknown
      for (let number = 1; number < 1000 && refused === undefined; number++) {
        const append = log.append([eventOf('a', number)], [])
        const outcome = await Promise.race([append.then(undefined, (error: unknown) => error), pause(1, 'pending')])
        if (outcome === 'pending') taken.push(append)
        else refused = outcome
      }
      expect(refused).toMatchObject({ code: 'BRIDGE_EVENT_LOG_FULL' })
      expect(taken.length).toBeGreaterThan(50)
      under.restore()
      await Promise.all(taken)
      await log.append([eventOf('a', 5000)], [])
      const expected = [0, ...taken.map((_, index) => index + 1), 5000]
      expect(await under.numbers()).toEqual(new Map([['a', expected]]))
    })

    it('withdraws what is unsent at its deadline, keeps what is under way, says how long it is away, and recovers', async () => {
      await using under = await create()
      await using log = await under.open({ deadlineMs: 1500 })
      await log.append([eventOf('a', 0)], [])
      using _frozen = under.freeze()
      const began = performance.now()
      let firstIsSettled = false
      const first = log.append([eventOf('a', 1)], []).then(() => {
        firstIsSettled = true
      })
      await pause(100)
      const late = [2, 3, 4].map((number) => log.append([eventOf('a', number)], []))
      const outcomes = await Promise.allSettled(late)
      expect(performance.now() - began).toBeGreaterThan(1400)
      for (const outcome of outcomes)
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'BRIDGE_EVENT_LOG_UNAVAILABLE' } })
      expect(firstIsSettled, 'what is under way is not given up').toBe(false)
      expect(log.awayMs()).toBeGreaterThan(1000)
      under.restore()
      await first
      await log.append([eventOf('a', 9)], [])
      expect(log.awayMs()).toBe(0)
      expect(await under.numbers()).toEqual(new Map([['a', [0, 1, 9]]]))
    })

    it('flushes what it holds when it closes, and takes no more', async () => {
      await using under = await create()
      const log = await under.open({})
      const appends = [1, 2, 3].map((number) => log.append([eventOf('a', number)], []))
      await log.close()
      await Promise.all(appends)
      await expect(log.append([eventOf('a', 4)], [])).rejects.toMatchObject({ code: 'BRIDGE_EVENT_LOG_UNAVAILABLE' })
      await log.close()
      expect(await under.numbers()).toEqual(new Map([['a', [1, 2, 3]]]))
    })
  })
}

let lastUs = Date.now() * 1000

export function eventOf(device: string, value: number, text?: string): TelemetryEvent {
  lastUs = Math.max(lastUs + 1, Date.now() * 1000)
  const content = text === undefined ? { value } : { text }
  return {
    v: 1,
    id: randomUUID(),
    tenant: 'default',
    device,
    source: 'mqtt',
    codec: 'own',
    ingestTimeUs: lastUs,
    readings: [{ metric: 'number', ...content, eventTimeUs: lastUs }],
  }
}

export function letterOf(payload: Buffer): DeadLetter {
  return {
    id: randomUUID(),
    tenant: 'default',
    device: 'a',
    source: 'mqtt',
    topic: 'devices/a/telemetry',
    contentType: 'application/json',
    stage: 'decode',
    code: 'malformed',
    message: 'not JSON',
    acknowledged: false,
    ingestTimeUs: Date.now() * 1000,
    payload,
  }
}

function pause<Answer>(ms: number, answer?: Answer): Promise<Answer | undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(answer), ms))
}

function randomOf(from: number): () => number {
  let state = from
  return () => {
    state = (state * 48_271 + 11) % 2_147_483_647
    return state / 2_147_483_647
  }
}
