import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { createClock } from './clock.ts'
import { deviceIdsOf } from './logins.ts'
import { Outbox } from './outbox.ts'
import { createPayloadMaker } from './payload.ts'
import { compareRows, type SentByFleet, waitForRows } from './stored-rows.ts'

let database: Awaited<ReturnType<typeof migratedDatabase>>
let pool: pg.Pool
beforeAll(async () => {
  database = await migratedDatabase()
  pool = new pg.Pool({ connectionString: database.url, max: 2 })
  pool.on('error', () => {})
  await pool.query(`CREATE TABLE reading_test PARTITION OF reading DEFAULT`)
})
afterAll(async () => {
  await pool?.end()
  await database?.[Symbol.asyncDispose]()
})

const messages = 20
const names = ['hall', 'yard', 'roof']
let runs = 0

/** A fleet of three whose messages were all acknowledged and are all stored, as the worker writes them. */
async function storedFleet(): Promise<SentByFleet> {
  const run = ++runs
  const payloads = createPayloadMaker(3, run)
  const clock = createClock()
  const outbox = new Outbox({ devices: names.length, payloads, clock })
  const fromUs = clock.nowUs()
  const logins = names.map((name) => ({ device: `${name}-${run}`, token: `token-${name}-${run}` }))
  await pool.query(
    `WITH made AS (
       INSERT INTO device (tenant_id, external_id)
       SELECT tenant.id, given FROM tenant, unnest($1::text[]) AS given WHERE tenant.name = 'default' RETURNING id, external_id)
     INSERT INTO credential (device_id, secret_hash)
     SELECT made.id, sha256(convert_to('token-' || made.external_id, 'UTF8')) FROM made`,
    [logins.map(({ device }) => device)],
  )
  await pool.query(
    `INSERT INTO metric (tenant_id, name, unit) SELECT tenant.id, given, NULL FROM tenant, unnest($1::text[]) AS given
     WHERE tenant.name = 'default' ON CONFLICT DO NOTHING`,
    [payloads.metrics],
  )
  const deviceIds = await deviceIdsOf(pool, logins)
  for (let device = 0; device < names.length; device++) {
    for (let number = 1; number <= messages; number++) {
      outbox.due(device, clock.nowUs() + number * 1000)
      outbox.take(device)
      outbox.acknowledged(device, number)
      for (const [metric, name] of payloads.metrics.entries())
        await insert(
          deviceIds[device] as number,
          name,
          outbox.journal.timeOf(device, number),
          payloads.value(metric, device, number),
        )
    }
  }
  return { journal: outbox.journal, payloads, names, deviceIds, fromUs }
}

async function insert(deviceId: number, metric: string, timeUs: number, value: number): Promise<void> {
  await pool.query(
    `INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value)
     SELECT $1, id, timestamptz 'epoch' + $3::bigint * interval '1 microsecond', now(), $4 FROM metric WHERE name = $2`,
    [deviceId, metric, timeUs, value],
  )
}

const seqOf = "metric_id = (SELECT id FROM metric WHERE name = 'seq')"
const limits = { calmMs: 0, quietMs: 600, timeoutMs: 5000 }
const clean = {
  missing: 0,
  doubled: 0,
  misplaced: 0,
  foreign: 0,
  unackedButStored: 0,
  refusedButStored: 0,
  examples: [],
}

it('finds every acknowledged number once, to the microsecond, and sees no rows of earlier runs', async () => {
  await storedFleet()
  const sent = await storedFleet()
  expect(await waitForRows(pool, sent, { ...limits, wanted: 60 })).toMatchObject({ stored: 60, storedAtEnd: 60 })
  expect(await compareRows(pool, sent)).toEqual({ ...clean, rows: 180 })
})

it('says which number lost its row, after waiting for it a while', async () => {
  const sent = await storedFleet()
  await pool.query(`DELETE FROM reading WHERE device_id = $1 AND ${seqOf} AND value = 7`, [sent.deviceIds[1]])
  expect(await waitForRows(pool, sent, { ...limits, wanted: 60 })).toMatchObject({ stored: 59, settledAfterMs: null })
  expect(await compareRows(pool, sent)).toEqual({
    ...clean,
    rows: 179,
    missing: 1,
    examples: ['yard number 7 (acknowledged): seq has no row'],
  })
})

it('says which number is stored twice', async () => {
  const sent = await storedFleet()
  await pool.query(
    `INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value, ordinal)
     SELECT device_id, metric_id, event_time, ingest_time, value, 1 FROM reading WHERE device_id = $1 AND ${seqOf} AND value = 20`,
    [sent.deviceIds[2]],
  )
  expect(await compareRows(pool, sent)).toEqual({
    ...clean,
    rows: 181,
    doubled: 1,
    examples: ['roof number 20 (acknowledged): seq has 2 rows'],
  })
})

it('says which two numbers changed places', async () => {
  const sent = await storedFleet()
  await pool.query(`UPDATE reading SET value = 9 - value WHERE device_id = $1 AND ${seqOf} AND value IN (4, 5)`, [
    sent.deviceIds[0],
  ])
  const { examples, ...found } = await compareRows(pool, sent)
  expect(found).toMatchObject({ rows: 180, missing: 0, doubled: 0, misplaced: 2 })
  expect(examples).toHaveLength(2)
  expect(examples.join('\n')).toMatch(/hall number [45]: seq [45] at \d+ µs is not what was sent/)
})

it('goes on waiting while rows still come', async () => {
  const sent = await storedFleet()
  const { rows } = await pool.query<{ time: string }>(
    `DELETE FROM reading WHERE device_id = $1 AND ${seqOf} AND value = 20
     RETURNING (extract(epoch FROM event_time) * 1000000)::bigint AS time`,
    [sent.deviceIds[0]],
  )
  const waiting = waitForRows(pool, sent, { ...limits, quietMs: 4000, wanted: 60 })
  await new Promise((resolve) => setTimeout(resolve, 400))
  await insert(sent.deviceIds[0] as number, 'seq', Number(rows[0]?.time), 20)
  const settling = await waiting
  expect(settling).toMatchObject({ storedAtEnd: 59, stored: 60 })
  expect(settling.settledAfterMs).toBeGreaterThan(300)
  expect(await compareRows(pool, sent)).toEqual({ ...clean, rows: 180 })
})

it('refuses tokens that this database does not know', async () => {
  await expect(deviceIdsOf(pool, [{ device: 'stranger', token: 'fb_x' }])).rejects.toThrow(/token of stranger/)
})
