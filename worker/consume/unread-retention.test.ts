import { expect, it } from 'vitest'
import type { Position } from './positions.ts'
import { unreadRetention } from './unread-retention.ts'

const hourMs = 3_600_000
const now = 1_000 * hourMs

/** A partition whose record at each offset came one hour after the one before; the last came now. */
const admin = (retentionHours: number | undefined, records: number) => ({
  retentionMs: async () => (retentionHours === undefined ? undefined : retentionHours * hourMs),
  offsetsAt: async (_topic: string, ms: number) =>
    new Map([[0, Math.min(records, Math.max(0, records - Math.ceil((now - ms) / hourMs)))]]),
})

const at = (stored: number, high: number): Position => ({
  topic: 't',
  partition: 0,
  stream: 's',
  holds: 'telemetry',
  next: stored,
  stored,
  low: 0,
  high,
  stopped: undefined,
})

it('is the share of the retention that the oldest unread record has waited, in steps', async () => {
  const ratio = (stored: number) => unreadRetention([at(stored, 100)], admin(100, 100), now)
  expect(await ratio(100)).toBe(0)
  expect(await ratio(95)).toBe(0)
  expect(await ratio(70)).toBe(0.25)
  expect(await ratio(40)).toBe(0.5)
  expect(await ratio(5)).toBe(0.9)
})

it('is 0 where records are kept for ever, and where nothing is known of a partition yet', async () => {
  expect(await unreadRetention([at(0, 100)], admin(undefined, 100), now)).toBe(0)
  expect(await unreadRetention([{ ...at(0, 100), next: undefined }], admin(100, 100), now)).toBe(0)
})
