import { expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import type { DeviceEventRecord } from '#schema/device-event.ts'
import type { Principal } from '../auth/principal.ts'
import { type PresenceOptions, startPresence } from './presence.ts'

const principal = (device: string) => ({ tenant: 'default', device }) as Principal

/** An event log that may be away. */
class Log {
  isAway = false
  readonly taken: DeviceEventRecord[] = []
  closed = false

  async write(records: readonly DeviceEventRecord[]): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    if (this.isAway) throw new Error('away')
    this.taken.push(...records)
  }

  async close(): Promise<void> {
    this.closed = true
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Who is online by what it has heard: of each client the highest (epoch, incarnation, ended), of incarnations that are alive. */
  online(): string[] {
    const clients = new Map<string, readonly [number, number, number]>()
    let newest = 0
    for (const record of this.taken) {
      if (record.kind === 'gateway') newest = Math.max(newest, record.incarnation)
      else if (record.session !== undefined) {
        const { epoch, incarnation } = record.session
        const state = [epoch, incarnation, record.kind === 'connected' ? 0 : 1] as const
        const known = clients.get(record.device)
        if (known === undefined || isLater(state, known)) clients.set(record.device, state)
      }
    }
    return [...clients].flatMap(([device, [, incarnation, ended]]) =>
      ended === 0 && incarnation === newest ? [device] : [],
    )
  }
}

function isLater(one: readonly number[], other: readonly number[]): boolean {
  const at = one.findIndex((value, index) => value !== other[index])
  return at >= 0 && (one[at] as number) > (other[at] as number)
}

const start = (writer: Log, more: Partial<PresenceOptions> = {}) =>
  startPresence({ writer, expirySeconds: 3600, log: silentLog, metrics: createMetrics('test'), flushMs: 5, ...more })

const kinds = ({ taken }: Log) => taken.map(({ kind }) => kind)

it('says in batches who comes and goes, after a sign of life', async () => {
  const log = new Log()
  const presence = start(log)
  const session = presence.connected(principal('pump-1'), 'c', 7)
  presence.ended(session, 'lost', 'keep_alive')
  presence.ended(session, 'lost', 'twice')
  presence.write([
    { type: 'limited', tenant: 'default', device: 'pump-1', limit: 'device', messages: 3, waitMs: 10, at: Date.now() },
  ])
  await presence.close()
  expect(kinds(log)).toEqual(['gateway', 'connected', 'lost', 'limited'])
  expect(log.taken[2]).toMatchObject({ session: { client: 'c', epoch: 7 }, details: { reason: 'keep_alive' } })
  expect(log.closed).toBe(true)
})

it('keeps what it has to say while the log is away', async () => {
  const log = new Log()
  const presence = start(log)
  log.isAway = true
  presence.connected(principal('pump-1'), 'c', 1)
  await new Promise((resolve) => setTimeout(resolve, 30))
  log.isAway = false
  await presence.close()
  expect(kinds(log)).toEqual(['gateway', 'connected'])
})

it('lets the word of the next connection go before that of the one that it took over', async () => {
  const log = new Log()
  const presence = start(log, { takenOverMs: 50 })
  const session = presence.connected(principal('pump-1'), 'c', 1)
  presence.ended(session, 'disconnected', 'taken_over')
  presence.connected(principal('pump-1'), 'c', 2)
  await expect.poll(() => kinds(log)).toEqual(['gateway', 'connected', 'connected', 'disconnected'])
  presence.ended(presence.connected(principal('pump-2'), 'c', 2), 'disconnected', 'taken_over')
  await presence.close()
  expect(kinds(log).at(-1)).toBe('disconnected')
})

it('drops what is too much, and the last word is right all the same', async () => {
  const log = new Log()
  const presence = start(log, { maxQueued: 50 })
  const stays = presence.connected(principal('stays'), 'c', 1)
  const goes = presence.connected(principal('goes'), 'c', 1)
  await expect.poll(() => log.online()).toEqual(['stays', 'goes'])
  log.isAway = true
  presence.ended(goes, 'lost', 'lost') // this word will be lost
  await new Promise((resolve) => setTimeout(resolve, 30))
  for (let epoch = 2; epoch < 200; epoch++)
    presence.ended(presence.connected(principal('flaps'), 'c', epoch), 'lost', 'lost')
  presence.connected(principal('new'), 'c', 1)
  log.isAway = false
  await presence.close()
  expect(log.online().sort()).toEqual(['new', 'stays'])
  const first = log.taken.find((record) => record.kind === 'connected' && record.device === 'stays')
  expect(
    log.taken.filter((record) => record.kind === 'connected' && record.id === stays.id),
    'said anew under its own id',
  ).toHaveLength(2)
  expect(first).toMatchObject({ id: stays.id })
})

it('says all anew after a silence in which others may have taken it for dead', async () => {
  const log = new Log()
  const presence = start(log, { expirySeconds: 0.06 })
  presence.connected(principal('pump-1'), 'c', 1)
  await expect.poll(() => log.taken.length).toBeGreaterThan(1)
  log.isAway = true
  await new Promise((resolve) => setTimeout(resolve, 100))
  log.isAway = false
  await expect.poll(() => log.online(), { timeout: 3000 }).toEqual(['pump-1'])
  await expect
    .poll(
      () =>
        new Set(
          log.taken
            .filter(({ kind }) => kind === 'gateway')
            .map((beat) => (beat as { incarnation: number }).incarnation),
        ).size,
    )
    .toBeGreaterThan(1)
  await presence.close()
})
