import { execFile } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { expect, inject, it, onTestFinished, vi } from 'vitest'
import { livePostmaster } from '#platform/embedded-postgres-cluster.ts'
import { isAlive } from '#platform/process-alive.ts'
import { freshDatabase, freshTopicPrefix } from '#test/servers/fresh.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

vi.setConfig({ testTimeout: 120_000 }) // many processes, one after the other

const root = resolve(import.meta.dirname, '../..')
const shell = promisify(execFile)
const ownPorts = {
  BRIDGE_MQTT_PORT: '0',
  BRIDGE_HTTP_PORT: '0',
  BRIDGE_OPS_PORT: '0',
  BRIDGE_ADMIN_PORT: '0',
  BRIDGE_POSTGRES_PORT: '0',
}

it('prints lines that work as they are, then the row and the milliseconds it took', async () => {
  const dataDir = newDataDir()
  const up = await start(dataDir)
  const lines = pasted(up.output)
  expect(lines.length).toBeGreaterThanOrEqual(2)
  for (const line of lines) await shell('sh', ['-c', line], { cwd: root, timeout: 30_000 })
  await up.until('the first row is told', () => /temperature +21\.5/.test(up.output))
  expect(up.output).toMatch(/the first message, by MQTT, is a row, \d+\.\d ms after it arrived/)
})

it('prints lines for what npm brought where no other program is', async () => {
  const dataDir = newDataDir()
  const up = await start(dataDir, { PATH: dirname(process.execPath) })
  const lines = pasted(up.output)
  expect(
    lines.map((line) =>
      line
        .replace(/^BRIDGE_DATA_DIR=\S+ /, '')
        .split(' ')
        .slice(0, 3)
        .join(' '),
    ),
  ).toEqual(['npx mqtt pub', 'npx fleetbridge sql'])
  const [publish, ask] = lines as [string, string]
  await shell('sh', ['-c', publish], { cwd: root, timeout: 30_000 })
  const { stdout } = await shell('sh', ['-c', ask], { cwd: root, timeout: 30_000 })
  expect(stdout).toMatch(/demo +temperature +21\.5/)
})

it('a second start keeps data, token and ports; Ctrl-C ends the first with 0 and leaves nothing running', async () => {
  const dataDir = newDataDir()
  const first = await start(dataDir)
  const before = await status(dataDir)
  await send(before, tokenIn(first.output), 7)
  const { adminToken } = secrets(dataDir)
  expect(await first.stop('SIGINT')).toBe(0)
  expect(isAlive(before.pids.postgres)).toBe(false)
  expect(existsSync(join(dataDir, 'state.json'))).toBe(false)
  const second = await start(dataDir)
  expect(tokenIn(second.output)).toBe(tokenIn(first.output))
  expect((await status(dataDir)).databaseUrl).toBe(before.databaseUrl)
  expect(secrets(dataDir).adminToken).toBe(adminToken)
  expect(await values(dataDir)).toEqual([7])
  expect(await second.stop('SIGTERM')).toBe(0)
})

it('writes down what it is for programs, where others do not read it', async () => {
  const dataDir = newDataDir()
  const up = await start(dataDir)
  expect(await status(dataDir)).toMatchObject({
    mqtt: expect.stringMatching(/^mqtt:\/\/localhost:\d+$/),
    http: expect.stringMatching(/^http:\/\/localhost:\d+$/),
    ops: expect.stringMatching(/^http:\/\/localhost:\d+$/),
    admin: expect.stringMatching(/^http:\/\/localhost:\d+$/),
    databaseUrl: expect.stringMatching(/^postgres:\/\/fleetbridge:.+@127\.0\.0\.1:\d+\/fleetbridge$/),
    eventLog: 'direct',
    rateLimiter: 'memory',
    ackLevel: 'committed',
    pids: { fleetbridge: up.pid, postgres: expect.any(Number) },
  })
  expect(await adminOf(dataDir)).toEqual({ name: 'up', role: 'admin' })
  const { adminToken } = secrets(dataDir)
  expect(up.output, 'the box names where it lies and not the token').toContain('adminToken in ')
  expect(up.output).not.toContain(adminToken)
  const mode = (name: string) => (statSync(join(dataDir, name)).mode & 0o777).toString(8)
  expect([mode('.'), mode('secrets.json'), mode('state.json'), mode('postgres')]).toEqual(['711', '600', '600', '700'])
})

it.each(['fleetbridge', 'postgres', 'both'])(
  'starts again after kill -9 of %s, with everything that was acknowledged',
  async (who) => {
    const dataDir = newDataDir()
    const first = await start(dataDir)
    const before = await status(dataDir)
    for (let n = 1; n <= 20; n++) await send(before, tokenIn(first.output), n)
    if (who !== 'fleetbridge') process.kill(before.pids.postgres, 'SIGKILL')
    if (who !== 'postgres') await first.stop('SIGKILL')
    else expect(await first.stop('SIGTERM')).toBe(0)
    const second = await start(dataDir)
    expect(await values(dataDir)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
    await send(await status(dataDir), tokenIn(second.output), 21)
    expect(await values(dataDir)).toHaveLength(21)
  },
)

it('goes on by itself after kill -9 of its Postgres', async () => {
  const dataDir = newDataDir()
  const up = await start(dataDir)
  const before = await status(dataDir)
  await send(before, tokenIn(up.output), 1)
  process.kill(before.pids.postgres, 'SIGKILL')
  await expect
    .poll(
      () =>
        send(before, tokenIn(up.output), 2).then(
          () => true,
          () => false,
        ),
      { timeout: 25_000 },
    )
    .toBe(true)
  // Backends outlive their postmaster for a moment and may still commit, so the row can be there before the server is again.
  await expect.poll(() => values(dataDir).catch(() => []), { timeout: 25_000 }).toContain(2)
})

it('names the variable of a port in use', async () => {
  const squatter = createServer()
  await new Promise<void>((done) => squatter.listen(0, done))
  onTestFinished(() => void squatter.close())
  const { port } = squatter.address() as { port: number }
  for (const variable of ['BRIDGE_MQTT_PORT', 'BRIDGE_HTTP_PORT', 'BRIDGE_OPS_PORT', 'BRIDGE_ADMIN_PORT']) {
    const failure = await failing(['up'], { ...ownPorts, BRIDGE_DATA_DIR: newDataDir(), [variable]: String(port) })
    expect(failure).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_PORT_IN_USE') })
    expect(failure.output).toContain(`${variable}=`)
  }
})

it('refuses a second instance on the folder, also when the first left no word, and leaves the first alone', async () => {
  const dataDir = newDataDir()
  const first = await start(dataDir)
  const running = await status(dataDir)
  const second = () => failing(['up'], { ...ownPorts, BRIDGE_DATA_DIR: dataDir })
  expect(await second()).toMatchObject({ code: 1, output: expect.stringContaining(`as process ${first.pid}`) })
  rmSync(join(dataDir, 'state.json'))
  expect(await second()).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_SECOND_INSTANCE') })
  await send(running, tokenIn(first.output), 1)
})

it('swaps parts for real servers, each on its own', async () => {
  const dataDir = newDataDir()
  const up = await start(dataDir, {
    KAFKA_BROKERS: inject('kafkaBrokers'),
    REDIS_URL: inject('redisUrl'),
    BRIDGE_KAFKA_TOPIC_PREFIX: freshTopicPrefix(),
    BRIDGE_KAFKA_PARTITIONS: '2',
  })
  const running = await status(dataDir)
  expect(running).toMatchObject({ eventLog: 'kafka', rateLimiter: 'redis', ackLevel: 'single-copy' })
  await send(running, tokenIn(up.output), 1)
  await up.until('the first row is told', () => /the first message, by HTTP, is a row/.test(up.output))
  expect(await values(dataDir)).toEqual([1])
  expect(await up.stop('SIGTERM')).toBe(0)
})

it('refuses a second gateway that writes straight into the same database', async () => {
  await using database = await freshDatabase()
  await start(newDataDir(), { DATABASE_URL: database.url })
  const failure = await failing(['up'], { ...ownPorts, BRIDGE_DATA_DIR: newDataDir(), DATABASE_URL: database.url })
  expect(failure).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_SECOND_INSTANCE') })
  expect(failure.output).toContain('KAFKA_BROKERS')
})

it('refuses a database of a newer version, and does not touch it', async () => {
  const dataDir = newDataDir()
  const first = await start(dataDir)
  const { databaseUrl } = await status(dataDir)
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  await client.query(`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('newer', 99999999999999)`)
  await client.end()
  await first.stop()
  const failure = await failing(['up'], { ...ownPorts, BRIDGE_DATA_DIR: dataDir })
  expect(failure).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_SCHEMA_NEWER') })
  expect(livePostmaster(join(dataDir, 'postgres')), 'its Postgres is stopped again').toBeUndefined()
})

it('does not start on a disk that is nearly full', async () => {
  const failure = await failing(['up'], {
    ...ownPorts,
    BRIDGE_DATA_DIR: newDataDir(),
    BRIDGE_POSTGRES_MIN_FREE_DISK_MB: '999999999',
  })
  expect(failure).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_DISK_FULL') })
  expect(failure.output).toContain('Make room')
})

it('lists every wrong setting at once and opens nothing', async () => {
  const dataDir = newDataDir()
  const failure = await failing(['up'], { BRIDGE_DATA_DIR: dataDir, BRIDGE_MQTT_PORT: 'x', BRIDGE_NOPE: '1' })
  expect(failure).toMatchObject({ code: 1, output: expect.stringContaining('BRIDGE_CONFIG_INVALID') })
  expect(failure.output).toContain('BRIDGE_MQTT_PORT')
  expect(failure.output).toContain('BRIDGE_NOPE')
  expect(existsSync(dataDir)).toBe(false)
})

it('runs from an older Node by the packaged one: exit codes, signals, and its end pass through', async () => {
  const older = join(mkFolder(), 'older.mjs')
  writeFileSync(
    older,
    `if (!process.env.FLEETBRIDGE_PARENT_FD) {
       Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.19.0' } })
       process.execve = undefined
     }`,
  )
  const env = { NODE_OPTIONS: `--import ${older}` }
  expect((await failing(['status'], { ...env, BRIDGE_DATA_DIR: newDataDir() })).code).toBe(1)
  expect((await failing(['nonsense'], env)).code).toBe(2)
  const dataDir = newDataDir()
  const stopped = await start(dataDir, env)
  expect((await status(dataDir)).pids.fleetbridge).not.toBe(stopped.pid)
  expect(await stopped.stop('SIGTERM')).toBe(0)
  const killed = await start(dataDir, env)
  const { pids } = await status(dataDir)
  await killed.stop('SIGKILL')
  await expect.poll(() => isAlive(pids.fleetbridge)).toBe(false)
  await start(dataDir)
})

interface Status {
  readonly http: string
  readonly admin: string
  readonly databaseUrl: string
  readonly pids: { readonly fleetbridge: number; readonly postgres: number }
}

async function start(dataDir: string, env: NodeJS.ProcessEnv = {}): Promise<BridgeProcess> {
  const up = new BridgeProcess(['up'], { ...ownPorts, BRIDGE_DATA_DIR: dataDir, ...env }, root)
  onTestFinished(() => up[Symbol.asyncDispose]())
  await up.until('it waits for the first message', () => up.output.includes('waiting for the first message'), 60_000)
  return up
}

async function status(dataDir: string): Promise<Status> {
  return JSON.parse(await run(['status', '--json'], { BRIDGE_DATA_DIR: dataDir })) as Status
}

function secrets(dataDir: string): { adminToken: string } {
  return JSON.parse(readFileSync(join(dataDir, 'secrets.json'), 'utf8'))
}

async function adminOf(dataDir: string): Promise<unknown> {
  const answer = await fetch(`${(await status(dataDir)).admin}/admin/v1/whoami`, {
    headers: { authorization: `Bearer ${secrets(dataDir).adminToken}` },
  })
  return await answer.json()
}

async function values(dataDir: string): Promise<number[]> {
  const rows = await run(['sql', '--json', "SELECT value FROM telemetry WHERE metric = 'n' ORDER BY value"], {
    BRIDGE_DATA_DIR: dataDir,
  })
  return (JSON.parse(rows) as { value: number }[]).map(({ value }) => value)
}

async function send({ http }: Status, token: string, n: number): Promise<void> {
  const answer = await fetch(`${http}/v1/telemetry`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ ts: 1_790_000_000_000 + n, values: { n } }),
  })
  await answer.text()
  if (answer.status !== 202) throw new Error(`answered ${answer.status}`)
}

async function failing(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number | null; output: string }> {
  const process = new BridgeProcess(args, env, root)
  onTestFinished(() => process[Symbol.asyncDispose]())
  const code = await process.exited
  return { code, output: process.output }
}

/** The indented lines after the request to paste them. */
function pasted(output: string): string[] {
  const [, after = ''] = output.split('in another terminal in this folder:')
  return (after.split('waiting for')[0] ?? '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}

function tokenIn(output: string): string {
  return /token (fb_[\w-]{43})/.exec(output)?.[1] ?? ''
}

function newDataDir(): string {
  return join(mkFolder(), '.fleetbridge')
}

function mkFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-up-'))
  chmodSync(folder, 0o755)
  onTestFinished(() => {
    const pid = livePostmaster(join(folder, '.fleetbridge/postgres'))?.pid
    if (pid !== undefined) process.kill(pid, 'SIGKILL')
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  })
  return folder
}
