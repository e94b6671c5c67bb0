import { execFile } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gunzipSync, gzipSync } from 'node:zlib'
import pg from 'pg'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { BridgeProcess } from '#test/stack/process.ts'

vi.setConfig({ testTimeout: 120_000 })

const checkout = fileURLToPath(new URL('../..', import.meta.url))
let dataDir: string
let instance: BridgeProcess
let client: pg.Client
let env: NodeJS.ProcessEnv

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'fleetbridge-import-'))
  env = {
    BRIDGE_DATA_DIR: dataDir,
    BRIDGE_MQTT_PORT: '0',
    BRIDGE_HTTP_PORT: '0',
    BRIDGE_OPS_PORT: '0',
    BRIDGE_ADMIN_PORT: '0',
    BRIDGE_POSTGRES_PORT: '0',
  }
  instance = new BridgeProcess(['up'], env)
  await instance.until('the instance waits for a message', () =>
    instance.output.includes('waiting for the first message'),
  )
  client = new pg.Client(JSON.parse(await readFile(join(dataDir, 'state.json'), 'utf8')).databaseUrl)
  await client.connect()
})
afterAll(async () => {
  await client?.end()
  await instance?.[Symbol.asyncDispose]()
  rmSync(dataDir, { recursive: true, force: true })
})

const yesterday = Math.floor(Date.now() / 1000) - 86_400

/** A file of numbered readings, several devices in turn. */
function numbered(name: string, rows: number): string {
  const lines = Array.from({ length: rows }, (_, n) => `${name}-${n % 7},${yesterday + n},${n}`)
  const file = join(dataDir, `${name}.csv`)
  writeFileSync(file, `device,ts,n\n${lines.join('\n')}\n`)
  return file
}

interface Ended {
  readonly code: number | null
  readonly output: string
  // biome-ignore lint/suspicious/noExplicitAny: what a test reads it also checks
  readonly json: any
}

async function importing(...args: string[]): Promise<Ended> {
  await using process = new BridgeProcess(['import', ...args, '--json'], env)
  const code = await process.exited
  const json = process.output.split('\n').findLast((line) => line.startsWith('{'))
  return { code, output: process.output, json: json === undefined ? undefined : JSON.parse(json) }
}

async function stored(prefix: string): Promise<{ n: number; sum: number }> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS n, coalesce(sum(value), 0)::float8 AS sum FROM telemetry WHERE starts_with(device, $1)`,
    [prefix],
  )
  return rows[0]
}

async function liveCredentials(): Promise<number> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS n FROM credential JOIN device ON device.id = device_id WHERE external_id = 'fleetbridge-import' AND revoked_at IS NULL`,
  )
  return rows[0].n
}

const sumTo = (rows: number) => ({ n: rows, sum: (rows * (rows - 1)) / 2 })

it('docs/import.md: its lines as written', async () => {
  const page = readFileSync(join(checkout, 'docs/import.md'), 'utf8')
  const lines = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block).join('')
  const path = `${dirname(process.execPath)}:${join(checkout, 'node_modules/.bin')}:${process.env.PATH}`
  const { stdout } = await promisify(execFile)(
    'bash',
    ['-euo', 'pipefail', '-c', lines.replaceAll('/tmp/', `${dataDir}/`)],
    {
      cwd: checkout,
      env: { ...process.env, ...env, PATH: path, npm_config_offline: 'true' },
      timeout: 100_000,
    },
  )
  expect(stdout).toContain('all 3 rows: 7 readings of 2 devices')
  expect(stdout).toMatch(/3 rows of 2 devices, 7 readings acknowledged: 7 new, 0 there before/)
  expect(stdout).toContain('"readings":7,"new":0,"duplicates":7')
  expect(stdout, 'what was exported is there').toMatch(/9 readings acknowledged: 0 new, 9 there before/)
  const zipped = gunzipSync(readFileSync(join(dataDir, 'boiler-1.ndjson.gz')))
    .toString()
    .trimEnd()
    .split('\n')
  expect(zipped.map((line) => JSON.parse(line).metric).toSorted()).toEqual([
    'rpm',
    'rpm',
    'state',
    'state',
    'temperature',
    'temperature',
  ])
  const { rows } = await client.query(
    `SELECT device, metric, unit, value FROM telemetry WHERE device IN ('boiler-3', 'boiler-4') ORDER BY device`,
  )
  expect(rows).toEqual([
    { device: 'boiler-3', metric: 'temp', unit: 'Cel', value: 21.5 },
    { device: 'boiler-4', metric: 'pressure', unit: 'bar', value: 2.4 },
  ])
  expect(await liveCredentials(), 'the credentials were revoked').toBe(0)
})

it('kill -9 in the middle, then the same command: every row once, and the counts are of the whole file', async () => {
  const rows = 60_000
  const file = numbered('killed', rows)
  const state = `${file}.import.json`
  await using first = new BridgeProcess(['import', file, '--yes', '--parallel', '1'], env)
  await first.until(
    'some rows are settled',
    () => existsSync(state) && JSON.parse(readFileSync(state, 'utf8')).rows > 0,
  )
  await first.stop('SIGKILL')
  const { rows: settled } = JSON.parse(readFileSync(state, 'utf8'))
  expect(settled).toBeLessThan(rows)
  expect(await liveCredentials(), 'the killed one left its credential').toBe(1)
  const second = await importing(file, '--yes')
  expect(second.output).toContain(`going on after ${settled} rows`)
  expect(second).toMatchObject({ code: 0, json: { rows, readings: rows, new: rows, duplicates: 0, rejected: 0 } })
  expect(await stored('killed-')).toEqual(sumTo(rows))
  expect(existsSync(state), 'nothing is left to go on with').toBe(false)
  expect(await liveCredentials()).toBe(0)
})

it('Ctrl-C ends with 130 and leaves a state that goes on; gzip', async () => {
  const rows = 60_000
  const plain = numbered('stopped', rows)
  const file = `${plain}.gz`
  writeFileSync(file, gzipSync(readFileSync(plain)))
  await using first = new BridgeProcess(['import', file, '--yes', '--parallel', '1'], env)
  const state = `${file}.import.json`
  await first.until(
    'some rows are settled',
    () => existsSync(state) && JSON.parse(readFileSync(state, 'utf8')).rows > 0,
  )
  expect(await first.stop('SIGINT')).toBe(130)
  expect(await liveCredentials()).toBe(0)
  expect(await importing(file, '--yes')).toMatchObject({ code: 0, json: { rows, new: rows } })
  expect(await stored('stopped-')).toEqual(sumTo(rows))
  expect(await importing(file, '--yes'), 'all of it again').toMatchObject({
    code: 0,
    json: { new: 0, duplicates: rows },
  })
  expect(await stored('stopped-')).toEqual(sumTo(rows))
})

it('bad rows go to the rejects file with their reasons, and the good ones are stored; a mended one can be imported', async () => {
  const file = join(dataDir, 'bad.csv')
  const old = '1999-01-01T00:00:00Z'
  writeFileSync(
    file,
    `device,time,t\nbad-1,${yesterday},1\n,${yesterday},2\na+b,${yesterday},3\nbad-1,soon,4\nbad-1,${old},5\nbad-1,2099-01-01T00:00:00Z,6\nbad-1,${yesterday + 1},1e999\nbad-1,${yesterday + 2},"x,y"\n`,
  )
  const rejects = `${file}.rejects.csv`
  const outcome = await importing(file, '--yes')
  expect(outcome).toMatchObject({ code: 1, json: { rows: 8, readings: 2, rejected: 6, parked: 0 } })
  const lines = readFileSync(rejects, 'utf8').trimEnd().split('\n')
  expect(lines[0]).toBe('line,reason,device,time,t')
  expect(lines.slice(1).map((line) => line.split(',')[0])).toEqual(['3', '4', '5', '6', '7', '8'])
  expect(lines[3]).toContain('cannot read the time')
  writeFileSync(rejects, readFileSync(rejects, 'utf8').replace(',soon,', `,${yesterday + 60},`))
  const mended = await importing(rejects, '--yes', '--value-columns', 't', '--rejects', join(dataDir, 'again.csv'))
  expect(mended).toMatchObject({ code: 1, json: { readings: 1, rejected: 5 } })
  expect((await stored('bad-1')).n).toBe(3)
})

it('what the gateway parks is told with its dead letter, and its neighbours are stored', async () => {
  await client.query(
    `INSERT INTO device_type (tenant_id, name, contract_mode, contract) SELECT id, 'strict', 'park', '{"metrics":{"t":{"type":"number"}}}' FROM tenant WHERE name = 'default'`,
  )
  await client.query(
    `INSERT INTO device (tenant_id, external_id, type) SELECT id, 'typed-1', 'strict' FROM tenant WHERE name = 'default'`,
  )
  const file = join(dataDir, 'typed.csv')
  writeFileSync(
    file,
    `device,time,t\ntyped-1,${yesterday},warm\ntyped-2,${yesterday},warm\ntyped-1,${yesterday + 1},2\n`,
  )
  await expect
    .poll(async () => (await importing(file, '--yes', '--message-rows', '1')).json, { timeout: 20_000 })
    .toMatchObject({ rows: 3, readings: 2, rejected: 1, parked: 1 })
  const [, line] = readFileSync(`${file}.rejects.csv`, 'utf8').split('\n')
  const letter = /dead letter ([0-9a-f-]{36})/.exec(line ?? '')?.[1]
  const { rows } = await client.query('SELECT device, code FROM dead_letter WHERE id = $1', [letter])
  expect(rows).toMatchObject([{ device: 'typed-1' }])
})

it('says what is missing, and sends nothing, where the columns do not say it', async () => {
  const file = join(dataDir, 'nameless.csv')
  writeFileSync(file, 'a,b\n1,2\n')
  const without = await importing(file, '--yes')
  expect(without.code).toBe(2)
  expect(without.output).toContain('--device-column NAME, or --device ID')
  const guessed = await importing(numbered('unasked', 3))
  expect(guessed.code).toBe(2)
  expect(guessed.output).toContain('--device-column device --time-column ts --value-columns n')
  expect((await stored('unasked')).n).toBe(0)
})
