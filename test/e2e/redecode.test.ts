import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { BridgeProcess, run } from '#test/stack/process.ts'

vi.setConfig({ testTimeout: 60_000 })

const dataDir = mkdtempSync(join(tmpdir(), 'fleetbridge-redecode-'))
const table = join(dataDir, 'fleetbridge.yaml')
const env = {
  BRIDGE_DATA_DIR: join(dataDir, 'data'),
  BRIDGE_CONFIG: table,
  BRIDGE_MQTT_PORT: '0',
  BRIDGE_HTTP_PORT: '0',
  BRIDGE_OPS_PORT: '0',
  BRIDGE_ADMIN_PORT: '0',
  BRIDGE_POSTGRES_PORT: '0',
}
let instance: BridgeProcess
let client: pg.Client
let http: string
let token: string

beforeAll(async () => {
  writeFileSync(
    table,
    'routes:\n  - path: /plant/data\n    keepRaw: 7d\n    units: { temp: C }\n  - path: /plant/other\n',
  )
  instance = new BridgeProcess(['up'], env)
  await instance.until('the instance waits for a message', () =>
    instance.output.includes('waiting for the first message'),
  )
  const state = JSON.parse(readFileSync(join(env.BRIDGE_DATA_DIR, 'state.json'), 'utf8'))
  http = state.http
  client = new pg.Client(state.databaseUrl)
  await client.connect()
  token = (await run(['devices', 'add', 'kiln-1'], env)).trim()
})
afterAll(async () => {
  await client?.end()
  await instance?.[Symbol.asyncDispose]()
  rmSync(dataDir, { recursive: true, force: true })
})

async function post(path: string, body: object): Promise<void> {
  await expect
    .poll(
      async () =>
        (
          await fetch(`${http}${path}`, {
            method: 'POST',
            headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
            body: JSON.stringify(body),
          })
        ).status,
    )
    .toBe(202)
}

async function rows(view: 'telemetry' | 'telemetry_latest' = 'telemetry'): Promise<string[]> {
  const found = await client.query(
    `SELECT metric || ' ' || coalesce(unit, '-') || ' ' || coalesce(value::text, text, flag::text) AS row FROM ${view} WHERE device = 'kiln-1' ORDER BY time, 1`,
  )
  return found.rows.map(({ row }) => row)
}

// biome-ignore lint/suspicious/noExplicitAny: what a test reads it also checks
async function redecode(...args: string[]): Promise<any> {
  await using process = new BridgeProcess(['redecode', '--device', 'kiln-1', '--from', '1d', '--json', ...args], env)
  const code = await process.exited
  return {
    code,
    output: process.output,
    ...JSON.parse(process.output.split('\n').find((line) => line.startsWith('{')) ?? '{}'),
  }
}

it('decodes the kept bytes again: dry run, replacement, rollups, audit; and nothing the second time', async () => {
  const hourAgo = Math.floor(Date.now() / 1000) - 3600
  await post('/plant/data', { ts: hourAgo, temp: 20, hum: 40 })
  await post('/plant/data', { ts: hourAgo + 60, temp: 21, hum: 41 })
  await post('/plant/data', { temp: 22, hum: 42 }) // its time is the arrival's
  await post('/plant/other', { ts: hourAgo + 120, temp: 9 })
  const before = await rows()
  expect(before).toEqual(['hum - 40', 'temp Cel 20', 'hum - 41', 'temp Cel 21', 'temp - 9', 'hum - 42', 'temp Cel 22'])
  const kept = await client.query('SELECT topic, source, payload FROM raw_message ORDER BY ingest_time')
  expect(
    kept.rows.map(({ payload }) => JSON.parse(payload).temp),
    'only of the route that says so',
  ).toEqual([20, 21, 22])
  expect(await redecode()).toMatchObject({ code: 0, messages: 3, same: 3, different: 0 })
  // The unit was Kelvin all along, and nobody wants the humidity under that name.
  writeFileSync(
    table,
    'routes:\n  - path: /plant/data\n    keepRaw: 7d\n    units: { temp: K }\n    rename: { hum: humidity }\n',
  )
  const dry = await redecode('--dry-run')
  expect(dry).toMatchObject({ code: 0, messages: 3, different: 3, failed: 0, removed: 6, added: 6 })
  expect(dry.differences).toContainEqual(expect.objectContaining({ change: '+', metric: 'temp', unit: 'K', value: 20 }))
  expect(await rows(), 'a dry run changes nothing').toEqual(before)
  const times = async () =>
    (await client.query(`SELECT DISTINCT event_time::text, ingest_time::text FROM reading ORDER BY 1`)).rows
  const timesBefore = await times()
  expect(await redecode()).toMatchObject({ code: 0, messages: 3, different: 3, removed: 6, added: 6 })
  expect(await rows()).toEqual([
    'humidity - 40',
    'temp K 20',
    'humidity - 41',
    'temp K 21',
    'temp - 9',
    'humidity - 42',
    'temp K 22',
  ])
  expect(await times()).toEqual(timesBefore)
  expect((await rows('telemetry_latest')).toSorted()).toEqual(['humidity - 42', 'temp - 9', 'temp K 22'])
  const rollups = async () =>
    (
      await client.query(
        `SELECT name || ' ' || coalesce(unit, '-') || ' ' || sum(sum) AS row FROM rollup_1h JOIN metric ON metric.id = metric_id GROUP BY name, unit ORDER BY 1`,
      )
    ).rows.map(({ row }) => row)
  await expect.poll(rollups, { timeout: 40_000, interval: 500 }).toEqual(['humidity - 123', 'temp - 9', 'temp K 63'])
  expect(await redecode()).toMatchObject({ code: 0, messages: 3, same: 3, different: 0 })
  const audit = await client.query(`SELECT subject, details FROM audit WHERE action = 'reading.redecode'`)
  expect(audit.rows).toMatchObject([{ subject: 'kiln-1', details: { messages: 3, removed: 6, added: 6 } }])
})

it('leaves what cannot be read as it is, and says so', async () => {
  const before = await rows()
  writeFileSync(table, 'routes:\n  - path: /plant/data\n    keepRaw: 7d\n    codec: senml\n')
  const answer = await redecode()
  expect(answer).toMatchObject({ code: 1, messages: 3, failed: 3, different: 0 })
  expect(answer.reasons).toHaveLength(1)
  writeFileSync(table, 'routes:\n  - path: /plant/data\n    device: other\n')
  expect(await redecode()).toMatchObject({
    code: 1,
    failed: 3,
    reasons: [{ message: expect.stringContaining('"other"') }],
  })
  expect(await rows()).toEqual(before)
})
