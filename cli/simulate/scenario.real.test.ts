import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { TestAuthority } from '#platform/testing/certificates.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

/** Every transport, format, fault and habit of devices that a scenario can have. */
const everything = `
name: everything
ramp: 1s
storms: [{ at: 3s }]
groups:
  - { name: plain, devices: 6, model: climate, every: 400ms, qos: [1, 4, 1], duplicates: 0.2, driftPpm: 500 }
  - { name: five, devices: 4, model: vibration, every: 400ms, transport: mqtt5, format: senml, late: 0.3, lateBy: 1s }
  - { name: board, devices: 3, model: meter, every: 500ms, transport: ws, format: thingsboard, duplicates: 0.2 }
  - { name: flat, devices: 3, model: tracker, every: 500ms, transport: ws5, format: generic, malformed: 0.2 }
  - { name: secure, devices: 2, model: climate, every: 500ms, transport: mqtts, clock: none }
  - { name: secure5, devices: 2, model: climate, every: 500ms, transport: mqtts5, malformed: 0.2 }
  - { name: browser, devices: 2, model: climate, every: 500ms, transport: wss }
  - { name: post, devices: 3, model: climate, every: 300ms, transport: http, batch: 5, offline: { every: 1s, for: 1s }, malformed: 0.2 }
  - { name: line, devices: 3, model: vibration, every: 300ms, transport: https, format: influx, batch: 4, duplicates: 0.2 }
  - { name: old, devices: 2, model: meter, every: 300ms, jumps: [{ at: 2s, by: -1h }, { at: 3s, by: 1h }], malformed: 0.2 }
  - { name: mute, devices: 2, model: climate, every: 300ms, transport: http, clock: none, batch: 3, duplicates: 0.3 }
`

let folder: string
let authority: TestAuthority
let instance: BridgeProcess
let env: NodeJS.ProcessEnv
let database: pg.Client

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fleetbridge-scenario-'))
  authority = new TestAuthority()
  const { certFile, keyFile } = authority.server()
  env = { BRIDGE_DATA_DIR: join(folder, 'data') }
  const ports = ['MQTT', 'HTTP', 'MQTT_TLS', 'HTTP_TLS', 'OPS'].map((name) => [`BRIDGE_${name}_PORT`, '0'])
  instance = new BridgeProcess(['up'], {
    ...env,
    ...Object.fromEntries(ports),
    BRIDGE_TLS_CERT_FILE: certFile,
    BRIDGE_TLS_KEY_FILE: keyFile,
  })
  await instance.until('it waits for a message', () => instance.output.includes('waiting for the first message'))
  database = new pg.Client(JSON.parse(await run(['status', '--json'], env)).databaseUrl)
  await database.connect()
  await writeFile(join(folder, 'everything.yaml'), everything)
})
afterAll(async () => {
  await database?.end()
  await instance?.[Symbol.asyncDispose]()
  authority?.[Symbol.dispose]()
  await rm(folder, { recursive: true, force: true })
})

const bin = fileURLToPath(new URL('../../bin/fleetbridge.js', import.meta.url))

/** Ends whatever the exit code is. */
function fleetbridge(...args: string[]) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [bin, ...args], { env: { ...process.env, ...env } }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    )
  })
}

const journal = () => join(folder, 'everything.journal')
const auditNow = async () => {
  const { code, stdout } = await fleetbridge('audit', '--json', '--journal', journal())
  return { code, ...(JSON.parse(stdout) as Record<string, number>) }
}

it('a fleet of every kind ends with a clean audit, a report and a page', async () => {
  const args = [
    '--duration',
    '5s',
    '--settle',
    '30s',
    '--ca',
    authority.own.certFile,
    '--json',
    '--html',
    join(folder, 'report.html'),
  ]
  const { code, stdout, stderr } = await fleetbridge(
    'simulate',
    '--scenario',
    join(folder, 'everything.yaml'),
    '--journal',
    journal(),
    ...args,
  )
  expect(code, stderr + stdout).toBe(0)
  const report = JSON.parse(stdout)
  expect(report).toMatchObject({
    scenario: 'everything',
    devices: 32,
    ok: true,
    waiting: 0,
    audit: { missing: 0, phantom: 0, doubled: 0, reordered: 0 },
  })
  const { counts, audit } = report
  expect(counts.due).toBeGreaterThan(200)
  expect(counts.sent).toBe(counts.due)
  expect(counts.accepted + counts.parked + counts.unanswered).toBe(counts.due)
  expect(audit.sent).toBe(counts.sent)
  expect(audit.dead, 'what cannot be decoded is a dead letter').toBeGreaterThan(5)
  expect(audit.duplicates, 'copies are no second rows').toBeGreaterThan(5)
  expect(await readFile(join(folder, 'report.html'), 'utf8')).toContain('clean: every acknowledged message')
})

it('the audit says when a row is deleted, doubled, swapped with another, or foreign', async () => {
  expect(await auditNow()).toMatchObject({ code: 0, missing: 0, phantom: 0, doubled: 0 })
  const pick = `SELECT reading.device_id, metric_id, event_time, ordinal FROM reading JOIN metric ON metric.id = metric_id JOIN device ON device.id = reading.device_id
                WHERE external_id LIKE 'sim-%-browser-1' AND name = 'temperature' ORDER BY event_time LIMIT 2`
  const key = '(reading.device_id, reading.metric_id, reading.event_time, reading.ordinal)'
  const same =
    'reading.device_id = r.device_id AND reading.metric_id = r.metric_id AND reading.event_time = r.event_time'
  const changes = [
    [
      `DELETE FROM reading WHERE ${key} IN (SELECT * FROM (${pick}) AS r LIMIT 1)`,
      { missing: 1, phantom: 0, doubled: 0 },
    ],
    [
      `INSERT INTO reading SELECT device_id, metric_id, event_time, ingest_time, value, 1, clock, flag, text, device_time FROM reading WHERE ${key} IN (SELECT * FROM (${pick}) AS r LIMIT 1)`,
      { missing: 0, phantom: 0, doubled: 1 },
    ],
    [
      `UPDATE reading SET value = 40 - reading.value FROM (${pick}) AS r WHERE ${same}`,
      { missing: 2, phantom: 2, doubled: 0 },
    ],
    [
      `WITH r AS (${pick}), two AS (SELECT r.*, value, row_number() OVER (ORDER BY r.event_time) AS n FROM r JOIN reading ON ${same}),
            swap AS (SELECT one.device_id, one.metric_id, one.event_time, other.value + CASE WHEN one.value = other.value THEN 1 ELSE 0 END AS value FROM two AS one JOIN two AS other ON other.n <> one.n)
       UPDATE reading SET value = r.value FROM swap AS r WHERE ${same}`,
      { missing: 2, phantom: 2, doubled: 0 },
    ],
    [
      `INSERT INTO reading SELECT device_id, metric_id, event_time + interval '7 microseconds', ingest_time, value, 0, clock, flag, text, device_time FROM reading WHERE ${key} IN (SELECT * FROM (${pick}) AS r LIMIT 1)`,
      { missing: 0, phantom: 1, doubled: 0 },
    ],
  ] as const
  for (const [sql, faults] of changes) {
    await database.query('CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM reading')
    await database.query(sql)
    expect(await auditNow(), sql).toMatchObject({ code: 1, ...faults })
    await database.query('DELETE FROM reading')
    await database.query('INSERT INTO reading SELECT * FROM kept')
  }
  expect(await auditNow()).toMatchObject({ code: 0, missing: 0, phantom: 0, doubled: 0 })
})

it('two processes share a fleet, and its devices are removed afterwards', async () => {
  const args = [
    '--devices',
    '40',
    '--duration',
    '3s',
    '--workers',
    '2',
    '--cleanup',
    '--journal',
    join(folder, 'two'),
    '--json',
  ]
  const { code, stdout, stderr } = await fleetbridge('simulate', '--scenario', 'storm', ...args)
  expect(code, stderr).toBe(0)
  const report = JSON.parse(stdout)
  expect(report).toMatchObject({ devices: 40, ok: true, self: { processes: 2 } })
  expect(report.seconds.length).toBeGreaterThan(0)
  const audited = await fleetbridge('audit', '--journal', join(folder, 'two.1'), join(folder, 'two.2'))
  expect(audited).toMatchObject({ code: 0 })
  const { rows } = await database.query(
    `SELECT status, count(*)::int FROM device WHERE external_id LIKE 'sim-' || $1 || '-%' GROUP BY 1`,
    [report.run],
  )
  expect(rows).toEqual([{ status: 'removed', count: 40 }])
})

it('the same seed is the same fleet', async () => {
  const values = async (name: string) => {
    const args = ['--devices', '11', '--duration', '1s', '--seed', '5', '--no-verify', '--ca', authority.own.certFile]
    const path = join(folder, name)
    const ended = await fleetbridge(
      'simulate',
      '--scenario',
      join(folder, 'everything.yaml'),
      '--journal',
      path,
      ...args,
    )
    expect(ended.code, ended.stderr).toBe(0)
    const lines = (await readFile(path, 'utf8'))
      .trim()
      .split('\n')
      .slice(12)
      .map((line) => JSON.parse(line) as unknown[])
    const sent = lines.filter(([kind, , number]) => kind === 's' && number === 1)
    return new Map(sent.map(([, device, , , copies, list]) => [device, [copies, list]]))
  }
  const [one, other] = [await values('one'), await values('other')]
  expect(one.size).toBeGreaterThan(5)
  for (const [device, made] of one) if (other.has(device)) expect(other.get(device)).toEqual(made)
})

it('says what is wrong with a scenario, a place, or words that are the scenario’s to say', async () => {
  const refused = async (...args: string[]) => (await fleetbridge('simulate', ...args)).stderr
  expect(await refused('--scenario', 'nowhere')).toMatch(/neither a file nor one of factory, home, storm, trackers/)
  expect(await refused('--scenario', 'home', '--rate', '5')).toMatch(/--rate is the scenario's to say/)
  expect(await refused('--scenario', 'home', '--devices', '1')).toMatch(/--devices must be at least 4/)
  expect(await refused('--scenario', 'home', '--journal', journal())).toMatch(/is there already/)
})
