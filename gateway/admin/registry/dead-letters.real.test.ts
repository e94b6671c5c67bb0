import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { addCredential } from './credentials.ts'
import {
  countLetters,
  letterOverhead,
  lettersToReplay,
  listLetters,
  markReplayed,
  markTried,
  outcomesOf,
  parkedBytes,
  purgeLetters,
} from './dead-letters.ts'
import { addDevices, changeStatus } from './devices.ts'

let database: Awaited<ReturnType<typeof migratedDatabase>>
let client: pg.Client
const by = { actor: 'cli:test', makesTenants: true }

beforeAll(async () => {
  database = await migratedDatabase()
  client = new pg.Client(database.url)
  await client.connect()
})
afterAll(async () => {
  await client?.end()
  await database?.[Symbol.asyncDispose]()
})

let numbered = 0
/** Each a second older than the one before. */
async function aLetter(
  device: string,
  more: { code?: string; tenant?: string; topic?: string; bytes?: number; context?: object } = {},
) {
  const { code = 'malformed', tenant = 'default', topic = 'devices/me/telemetry', bytes = 3, context = null } = more
  const id = randomUUID()
  await client.query(
    `INSERT INTO dead_letter (id, tenant, device, source, topic, stage, code, message, acknowledged, ingest_time, payload, context)
     VALUES ($1, $2, $3, 'mqtt', $4, 'decode', $5, '', true, now() - $6 * interval '1 second', $7, $8)`,
    [id, tenant, device, topic, code, ++numbered, Buffer.alloc(bytes, 'x'), context],
  )
  return id
}
const idsOf = (rows: readonly { id: string }[]) => rows.map(({ id }) => id)
const all = { limit: 100, state: 'all' } as const

it('lists the newest first, by page, and by every part of the filter', async () => {
  const one = await aLetter('list-1', { code: 'too_old' })
  const two = await aLetter('list-1', { topic: '/write?db=a', tenant: 'acme' })
  const three = await aLetter('list-1', { topic: "a%b_'c" })
  const filter = { device: 'list-1' }
  expect(idsOf(await listLetters(client, filter, all))).toEqual([one, two, three])
  expect(idsOf(await listLetters(client, filter, { ...all, limit: 1 }))).toEqual([one])
  expect(idsOf(await listLetters(client, filter, { ...all, after: one }))).toEqual([two, three])
  expect(idsOf(await listLetters(client, { ...filter, code: 'too_old' }, all))).toEqual([one])
  expect(idsOf(await listLetters(client, { ...filter, tenant: 'acme' }, all))).toEqual([two])
  expect(idsOf(await listLetters(client, { ...filter, topic: '/write*' }, all))).toEqual([two])
  expect(idsOf(await listLetters(client, { ...filter, topic: '/write' }, all))).toEqual([])
  expect(idsOf(await listLetters(client, { topic: "a%b_'c" }, all))).toEqual([three])
  expect(idsOf(await listLetters(client, { ...filter, since: '1h', until: '0s' }, all))).toHaveLength(3)
  expect(idsOf(await listLetters(client, { ...filter, until: '2020-01-01' }, all))).toEqual([])
  expect(await countLetters(client, filter, 'all')).toEqual([
    { code: 'malformed', letters: 2, bytes: 6 },
    { code: 'too_old', letters: 1, bytes: 3 },
  ])
  await expect(listLetters(client, { since: 'yesterday' }, all)).rejects.toThrow('neither a time')
  await expect(listLetters(client, { ids: ["' or true"] }, all)).rejects.toThrow('no id')
})

it('brings letters to replay with what their senders may do today, the oldest first, and not more bytes than a page', async () => {
  await addDevices(client, by, 'default', [{ device: 'gw-r' }, { device: 'off-r' }])
  const proof = { kind: 'token' } as const
  for (const pattern of ['a-*', 'b-*'])
    await addCredential(client, by, {
      tenant: 'default',
      device: 'gw-r',
      proof,
      role: 'fleet',
      pattern,
      makesDevice: false,
    })
  await changeStatus(client, by, { tenant: 'default', devices: ['off-r'], status: 'disabled' })
  const off = await aLetter('off-r', { code: 'bad_time' })
  const unknown = await aLetter('nobody', { code: 'bad_time', bytes: 9_000_000 })
  const fleet = await aLetter('a-1', { code: 'bad_time', context: { sender: 'gw-r', fleet: true }, bytes: 9_000_000 })
  const filter = { code: 'bad_time' }
  const page = await lettersToReplay(client, filter, { limit: 10 })
  expect(page.map(({ id, sender }) => [id, sender])).toEqual([
    [fleet, { enabled: true, patterns: expect.arrayContaining(['a-*', 'b-*']) }],
    [unknown, undefined],
  ])
  const rest = await lettersToReplay(client, filter, { limit: 10, after: unknown })
  expect(rest.map(({ id, sender }) => [id, sender])).toEqual([[off, { enabled: false, patterns: [] }]])
})

it('marks what came of a replay, and looks at no marked one again', async () => {
  const [ignored, parked, sent] = [await aLetter('marks'), await aLetter('marks'), await aLetter('marks')] as const
  const filter = { device: 'marks' }
  await markTried(client, by, filter, [ignored, parked, sent])
  await markReplayed(client, [
    { id: ignored, kind: 'ignored' },
    { id: parked, kind: 'parked', code: 'too_deep', message: 'x\0y' },
    { id: sent, kind: 'sent', messages: 1 },
  ])
  expect(await outcomesOf(client, [ignored, parked, sent])).toEqual({
    stored: 0,
    duplicate: 0,
    ignored: 1,
    parked: 1,
    pending: 1,
  })
  expect((await lettersToReplay(client, filter, { limit: 10 })).map(({ id }) => id)).toEqual([sent, parked])
  expect(await listLetters(client, { ids: [parked] }, all)).toMatchObject([{ code: 'too_deep', message: 'x\u{fffd}y' }])
})

it('purges what is named, and nothing where nothing is', async () => {
  await aLetter('purged')
  await expect(purgeLetters(client, by, {}, { state: 'all', dryRun: false })).rejects.toThrow('name which')
  expect(await purgeLetters(client, by, { device: 'purged' }, { state: 'replayed', dryRun: false })).toBe(0)
  expect(await purgeLetters(client, by, { device: 'purged' }, { state: 'all', dryRun: true })).toBe(1)
  expect(await purgeLetters(client, by, { device: 'purged' }, { state: 'all', dryRun: false })).toBe(1)
  expect(await countLetters(client, { device: 'purged' }, 'all')).toEqual([])
})

it('adds up the bytes that wait, of tenants and devices, without those far below their quota', async () => {
  await client.query('DELETE FROM dead_letter')
  for (const bytes of [1000, 2000]) await aLetter('heavy', { bytes })
  await aLetter('light', { bytes: 1 })
  await aLetter('x/y', { bytes: 5000, tenant: 'acme' })
  expect(await parkedBytes(client, { deviceBytes: 10_000, tenantBytes: 10_000 })).toEqual(
    new Map([
      ['default/heavy', 3000 + 2 * letterOverhead],
      ['default', 3001 + 3 * letterOverhead],
      ['acme/x/y', 5000 + letterOverhead],
      ['acme', 5000 + letterOverhead],
    ]),
  )
  await client.query(`UPDATE dead_letter SET replayed_at = now() WHERE tenant = 'default'`)
  expect(await parkedBytes(client, { deviceBytes: 10_000, tenantBytes: 100_000 })).toEqual(
    new Map([['acme/x/y', 5000 + letterOverhead]]),
  )
})
