import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, inject, it, onTestFinished, vi } from 'vitest'
import { freshDatabase, freshTopicPrefix } from '#test/servers/fresh.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

vi.setConfig({ testTimeout: 120_000 }) // many processes, one after the other

const root = resolve(import.meta.dirname, '../..')
const ownPorts = { BRIDGE_MQTT_PORT: '0', BRIDGE_HTTP_PORT: '0', BRIDGE_OPS_PORT: '0', BRIDGE_ADMIN_PORT: '0' }

it.each(['gateway', 'worker'])('%s without Kafka or database names what is missing, and up', async (command) => {
  const neither = await failing([command], ownPorts)
  expect(neither).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_CONFIG_INVALID') })
  expect(neither.output).toMatch(/KAFKA_BROKERS and DATABASE_URL.*fleetbridge up/s)
  const noDatabase = await failing([command], { ...ownPorts, KAFKA_BROKERS: inject('kafkaBrokers') })
  expect(noDatabase.output).toMatch(/needs DATABASE_URL/)
})

it.each(['gateway', 'worker'])('%s before init says to run it', async (command) => {
  await using database = await freshDatabase()
  const env = {
    ...ownPorts,
    KAFKA_BROKERS: inject('kafkaBrokers'),
    BRIDGE_KAFKA_TOPIC_PREFIX: freshTopicPrefix(),
    DATABASE_URL: database.url,
  }
  const noTables = await failing([command], env)
  expect(noTables).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_SCHEMA_MISSING') })
  expect(noTables.output).toContain('fleetbridge init')
  await run(['init'], { DATABASE_URL: database.url })
  const noTopics = await failing([command], env)
  expect(noTopics).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_TOPICS_MISSING') })
  expect(noTopics.output).toContain('fleetbridge init')
})

it('init says what it did, and nothing the second time', async () => {
  await using database = await freshDatabase()
  const prefix = freshTopicPrefix()
  const env = { KAFKA_BROKERS: inject('kafkaBrokers'), BRIDGE_KAFKA_TOPIC_PREFIX: prefix, DATABASE_URL: database.url }
  const first = JSON.parse(await run(['init', '--json'], env))
  expect(first.migrations).toBeGreaterThan(0)
  expect(first.topics).toContain(`${prefix}.telemetry.v1`)
  expect(first.database, 'no password in what is printed').not.toContain(`${new URL(database.url).password}@`)
  expect(JSON.parse(await run(['init', '--json'], env))).toMatchObject({ migrations: 0, topics: [] })
})

it('gateway names the variable of a port in use', async () => {
  await using database = await freshDatabase()
  await run(['init'], { DATABASE_URL: database.url })
  const squatter = createServer()
  await new Promise<void>((done) => squatter.listen(0, done))
  onTestFinished(() => void squatter.close())
  const { port } = squatter.address() as { port: number }
  const failure = await failing(['gateway'], {
    ...ownPorts,
    KAFKA_BROKERS: inject('kafkaBrokers'),
    DATABASE_URL: database.url,
    BRIDGE_MQTT_PORT: String(port),
  })
  expect(failure).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_MQTT_PORT=') })
})

it('commands that need a running instance say so, for people and for programs', async () => {
  const nowhere = { BRIDGE_DATA_DIR: join(tmpdir(), 'fleetbridge-nowhere') }
  for (const args of [
    ['status'],
    ['sql', 'SELECT 1'],
    ['devices', 'add', 'pump-1'],
    ['devices', 'list'],
    ['credentials', 'add', '--fleet'],
    ['tenants', 'list'],
    ['admin-tokens', 'list'],
  ]) {
    const failure = await failing(args, nowhere)
    expect(failure).toMatchObject({ code: 1, output: expect.stringContaining('error BRIDGE_NOT_RUNNING: ') })
  }
  const { output } = await failing(['status', '--json'], nowhere)
  expect(JSON.parse(output)).toMatchObject({ error: { code: 'BRIDGE_NOT_RUNNING' } })
})

it('what is not understood ends with 2', async () => {
  for (const args of [
    ['nonsense'],
    ['devices', 'add'],
    ['devices', 'add', '--count', 'many'],
    ['credentials', 'add'],
    ['credentials', 'rotate'],
    ['devices', 'import', '/nowhere.csv'],
    ['up', '--loud'],
  ])
    expect((await failing(args, {})).code, args.join(' ')).toBe(2)
})

it('every command has a --help with an example that can be run', async () => {
  const commands = [
    'up',
    'gateway',
    'worker',
    'init',
    'status',
    'sql',
    'devices add',
    'devices list',
    'credentials add',
    'simulate',
  ]
  const helps = await Promise.all(commands.map((command) => run([...command.split(' '), '--help'], {})))
  for (const [index, help] of helps.entries()) expect(help, commands[index]).toMatch(/\$ .*fleetbridge /)
})

it('devices and credentials work on DATABASE_URL', async () => {
  await using database = await freshDatabase()
  const env = { DATABASE_URL: database.url }
  await run(['init'], env)
  expect(await run(['devices', 'add', 'pump-1'], env)).toMatch(/^fb_[\w-]{43}\n$/)
  const csv = await run(['devices', 'add', '--count', '500', '--prefix', 'load-', '--csv'], env)
  expect(csv.trim().split('\n')).toHaveLength(500)
  expect(csv).toMatch(/^load-1,fb_[\w-]{43}\n/)
  const fleet = JSON.parse(await run(['credentials', 'add', '--fleet', '--name', 'gw-1', '--json'], env))
  expect(fleet).toEqual({ device: 'gw-1', token: expect.stringMatching(/^fb_[\w-]{43}$/) })
  expect(await run(['credentials', 'add', '--device', 'pump-1'], env)).toMatch(/^fb_[\w-]{43}\n$/)
  const again = await failing(['devices', 'add', 'pump-1'], env)
  expect(again.output).toContain('npx fleetbridge credentials add --device pump-1')
  expect(JSON.parse(await run(['devices', 'list', '--limit', '2', '--json'], env))).toMatchObject([
    { device: 'gw-1', fleet: true },
    { device: 'load-1', fleet: false, credentials: 1 },
  ])
  expect(await run(['sql', 'SELECT count(*) FROM device'], env)).toBe('count\n-----\n  502\n(1 row)\n')
  expect(
    JSON.parse(
      await run(
        ['sql', '--json', "SELECT timestamptz '2026-01-01 00:00:00.000001Z' AS t, 1.5::float8 AS f, NULL AS n"],
        env,
      ),
    ),
  ).toEqual([{ t: '2026-01-01 00:00:00.000001+00', f: 1.5, n: null }])
})

it('a fleet is imported, again without harm, and a bad line is told', async () => {
  await using database = await freshDatabase()
  const env = { DATABASE_URL: database.url }
  await run(['init'], env)
  const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-import-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const [fleet, tokens, rejects] = ['fleet.csv', 'tokens.csv', 'rejects.csv'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  const ids = Array.from({ length: 1500 }, (_, index) => `meter-${index}`)
  writeFileSync(fleet, `device,site\n${ids.map((id) => `${id},north`).join('\n')}\n`)
  const counts = JSON.parse(await run(['devices', 'import', fleet, '--out', tokens, '--json'], env))
  expect(counts).toEqual({ added: 1500, renewed: 0, skipped: 0, rejected: 0, interrupted: false })
  expect(readFileSync(tokens, 'utf8').trim().split('\n')).toHaveLength(1501)
  expect(statSync(tokens).mode & 0o777).toBe(0o600)
  appendFileSync(fleet, 'a+b,north\nlate,north\n')
  const again = await failing(['devices', 'import', fleet, '--out', tokens, '--rejects', rejects], env)
  expect(again).toMatchObject({
    code: 1,
    output: expect.stringMatching(/1 added, 1500 were there already, 1 rejected/),
  })
  expect(readFileSync(tokens, 'utf8')).toMatch(/late,fb_[\w-]{43}\n$/)
  expect(readFileSync(rejects, 'utf8')).toMatch(/^line,device,reason\n1502,a\+b,/)
  const exported = await run(['devices', 'export'], env)
  expect(exported.split('\n').slice(0, 2)).toEqual([
    'device,type,site,tenant,status,created,aliases',
    expect.stringMatching(/^meter-0,,north,default,enabled,2/),
  ])
})

async function failing(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number | null; output: string }> {
  await using process = new BridgeProcess(args, env, root)
  const code = await process.exited
  return { code, output: process.output }
}
