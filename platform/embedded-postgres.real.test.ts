import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterEach, expect, it, onTestFinished, vi } from 'vitest'
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded-postgres.ts'
import { findPostgresBinaries } from './embedded-postgres-binaries.ts'
import { silentLog } from './log.ts'
import { isAlive } from './process-alive.ts'

const isRoot = process.getuid?.() === 0
const strangers: number[] = []

afterEach(() => {
  for (const pid of strangers.splice(0)) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
})

it('starts anew, and again with the same data, password and port', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const first = await start(dataDir)
  await ask(first.databaseUrl, 'CREATE TABLE kept AS SELECT 7 AS seven')
  await first.close()
  const second = await start(dataDir)
  expect(second.databaseUrl).toBe(first.databaseUrl)
  expect(second.reusedOrphan).toBe(false)
  expect(await ask(second.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }])
  expect(await ask(second.databaseUrl, 'SHOW fsync')).toEqual([{ fsync: 'on' }])
})

it('keeps its files to itself', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const { dataPath, note } = await start(dataDir)
  expect(mode(dataDir)).toBe('711')
  expect(mode(join(dataDir, 'secrets.json'))).toBe('600')
  expect(mode(dataPath)).toBe('700')
  // From a checkout that only root may enter it runs in a user namespace, on files of root's.
  if (isRoot) expect(statSync(dataPath).uid === 0).toBe(note.includes('namespace'))
  else expect(statSync(dataPath).uid).toBe(process.getuid?.())
})

it('lets nobody in without the password', async () => {
  const postgres = await start(join(folder(0o755), '.fleetbridge'))
  const url = new URL(postgres.databaseUrl)
  url.password = 'wrong'
  await expect(ask(url.href, 'SELECT 1')).rejects.toThrow(/password authentication failed/)
})

it('runs in a folder that only its user may enter', async () => {
  const parent = folder(0o700)
  const postgres = await start(join(parent, '.fleetbridge'))
  expect(await ask(postgres.databaseUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
  await postgres.close()
  const again = await start(join(parent, '.fleetbridge'))
  expect(again.dataPath).toBe(postgres.dataPath)
})

if (isRoot)
  it('as root, in a folder behind one of another user, keeps the data elsewhere and says where', async () => {
    const parent = folder(0o700)
    const inner = join(parent, 'inner')
    mkdirSync(inner)
    chmodSync(inner, 0o777)
    chownSync(parent, 12_345, 12_345)
    const postgres = await start(join(inner, '.fleetbridge'))
    onTestFinished(() => rmSync(join(postgres.dataPath, '..'), { recursive: true, force: true }))
    expect(postgres.dataPath).toMatch(/^\/var\/lib\/fleetbridge\//)
    expect(postgres.note).toContain(postgres.dataPath)
    await ask(postgres.databaseUrl, 'CREATE TABLE kept AS SELECT 7 AS seven')
    await postgres.close()
    const again = await start(join(inner, '.fleetbridge'))
    expect(await ask(again.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }])
  })

if (isRoot)
  it('keeps the data when its folder moves behind a closed one, and back', async () => {
    const open = folder(0o755)
    const closed = folder(0o700)
    const first = await start(join(open, '.fleetbridge'))
    await ask(first.databaseUrl, 'CREATE TABLE kept AS SELECT 7 AS seven')
    await first.close()
    spawnSync('mv', [join(open, '.fleetbridge'), closed])
    const second = await start(join(closed, '.fleetbridge'))
    expect(await ask(second.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }])
    await second.close()
    spawnSync('mv', [join(closed, '.fleetbridge'), open])
    const third = await start(join(open, '.fleetbridge'))
    expect(await ask(third.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }])
  })

it('runs for a user who is not root', async () => {
  const parent = folder(0o700)
  if (isRoot) chownSync(parent, 65_534, 65_534)
  const { url, user } = await startElsewhere(join(parent, '.fleetbridge'), isRoot ? 65_534 : undefined)
  expect(user).not.toBe(0)
  expect(await ask(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
})

it('goes on with the server of a killed parent', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const killed = await startElsewhere(dataDir)
  await ask(killed.url, 'CREATE TABLE kept AS SELECT 7 AS seven')
  await end(killed.child, 'SIGKILL')
  expect(isAlive(killed.pid)).toBe(true)
  const next = await start(dataDir)
  expect(next.reusedOrphan).toBe(true)
  expect(next.pid).toBe(killed.pid)
  expect(await ask(next.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }])
  await next.close()
  // pg_ctl looks for the pid file, which goes a moment before the process.
  await vi.waitFor(() => expect(isAlive(killed.pid), 'and stops it in the end').toBe(false))
})

it('starts an orphan again when the settings changed', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const killed = await startElsewhere(dataDir)
  await end(killed.child, 'SIGKILL')
  const port = await freePort()
  const next = await startEmbedded({ dataDir, port })
  expect(next.port).toBe(port)
  expect(next.reusedOrphan).toBe(false)
})

it('starts after both, it and its parent, were killed', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const killed = await startElsewhere(dataDir)
  await ask(killed.url, 'CREATE TABLE kept AS SELECT 7 AS seven')
  process.kill(killed.pid, 'SIGKILL')
  await end(killed.child, 'SIGKILL')
  const next = await start(dataDir)
  expect(next.reusedOrphan).toBe(false)
  expect(await ask(next.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }])
})

it('comes back by itself, on the same port, when it was killed', async () => {
  const postgres = await start(join(folder(0o755), '.fleetbridge'))
  await ask(postgres.databaseUrl, 'CREATE TABLE kept AS SELECT 7 AS seven')
  const { pid } = postgres
  process.kill(pid, 'SIGKILL')
  await expect
    .poll(() => ask(postgres.databaseUrl, 'SELECT seven FROM kept'), { timeout: 15_000 })
    .toEqual([{ seven: 7 }])
  await expect.poll(() => postgres.pid).not.toBe(pid)
})

it('starts when the id of a dead server belongs to another process now', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const first = await start(dataDir)
  const lockFile = readFileSync(join(first.dataPath, 'postmaster.pid'), 'utf8')
  await first.close()
  writeFileSync(join(first.dataPath, 'postmaster.pid'), lockFile.replace(/^\d+/, String(process.pid)))
  const next = await start(dataDir)
  expect(next.reusedOrphan).toBe(false)
})

it('begins again where initdb was interrupted', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const dead = spawnSync('true').pid
  mkdirSync(join(dataDir, `postgres.new-${dead}`, 'data'), { recursive: true })
  mkdirSync(join(dataDir, 'postgres', 'base'), { recursive: true })
  const postgres = await start(dataDir)
  expect(await ask(postgres.databaseUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
  expect(readdirSync(dataDir).sort()).toEqual(['postgres', 'secrets.json'])
})

it('passes over a port in use and keeps the one it took', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const squatter = createServer()
  await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve))
  const { port } = squatter.address() as { port: number }
  const first = await startEmbedded({ dataDir, port })
  expect(first.port).toBeGreaterThan(port)
  await first.close()
  await new Promise((resolve) => squatter.close(resolve))
  const second = await startEmbedded({ dataDir, port })
  expect(second.port).toBe(first.port)
})

it('refuses a second instance, whose failure leaves the first alone', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const first = await start(dataDir)
  await expect(start(dataDir)).rejects.toMatchObject({ code: 'BRIDGE_SECOND_INSTANCE' })
  expect(await ask(first.databaseUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
})

it('takes a new password when the secrets were lost', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const first = await start(dataDir)
  await ask(first.databaseUrl, 'CREATE TABLE kept AS SELECT 7 AS seven')
  await first.close()
  rmSync(join(dataDir, 'secrets.json'))
  const second = await start(dataDir)
  expect(await ask(second.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }])
})

it('does not start on a full disk', async () => {
  const dataDir = join(folder(0o755), '.fleetbridge')
  const starting = startEmbeddedPostgres({ dataDir, host: '127.0.0.1', port: 0, minFreeDiskMb: 1e12, log: silentLog })
  await expect(starting).rejects.toMatchObject({
    code: 'BRIDGE_DISK_FULL',
    message: expect.stringContaining('Make room'),
  })
})

it('says what to do where it has no binaries', () => {
  expect(() => findPostgresBinaries('win32', 'x64')).toThrow(/no embedded Postgres for win32-x64. Set DATABASE_URL/)
})

const start = (dataDir: string) => startEmbedded({ dataDir, port: 0 })

async function startEmbedded({ dataDir, port }: { dataDir: string; port: number }): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDir, host: '127.0.0.1', port, minFreeDiskMb: 1, log: silentLog })
  onTestFinished(() => postgres.close())
  return postgres
}

interface Elsewhere {
  readonly child: ChildProcess
  readonly url: string
  readonly pid: number
  readonly user: number
}

/** Starts it in a process of its own, as another user when one is named. */
async function startElsewhere(dataDir: string, uid?: number): Promise<Elsewhere> {
  const module = resolve(import.meta.dirname, 'embedded-postgres.ts')
  const script = `
    const { startEmbeddedPostgres } = await import(${JSON.stringify(module)})
    const { silentLog } = await import(${JSON.stringify(resolve(import.meta.dirname, 'log.ts'))})
    const dataDir = ${JSON.stringify(dataDir)}
    const postgres = await startEmbeddedPostgres({ dataDir, host: '127.0.0.1', port: 0, minFreeDiskMb: 1, log: silentLog })
    console.log(JSON.stringify({ url: postgres.databaseUrl, pid: postgres.pid, user: process.getuid() }))
    process.once('SIGTERM', () => postgres.close())
    setInterval(() => {}, 60_000).unref()
    process.stdin.resume().on('end', () => postgres.close().then(() => process.exit()))
  `
  const args = ['--input-type=module', '-e', script]
  const reachable =
    uid === undefined || spawnSync(process.execPath, ['--version'], { uid, gid: uid, cwd: '/' }).status === 0
  const [file, fileArgs] = reachable
    ? [process.execPath, args]
    : // A checkout in a closed folder: still not root, by a user namespace.
      ['unshare', ['--user', `--map-user=${uid}`, `--map-group=${uid}`, process.execPath, ...args]]
  if (!reachable) chownSync(join(dataDir, '..'), 0, 0)
  const child = spawn(file, fileArgs, {
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
    ...(reachable && uid !== undefined && { uid, gid: uid }),
  })
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (data: Buffer) => resolve(data.toString()))
    child.once('exit', (code) => reject(new Error(`it ended with ${code}`)))
  })
  const told = JSON.parse(line) as Omit<Elsewhere, 'child'>
  strangers.push(told.pid)
  onTestFinished(() => end(child, 'SIGKILL'))
  return { child, ...told }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await ended
}

function folder(permissions: number): string {
  const path = mkdtempSync(join(tmpdir(), 'fleetbridge-embedded-'))
  chmodSync(path, permissions)
  onTestFinished(async () => {
    await sleep(50) // a killed server's children write their last
    rmSync(path, { recursive: true, force: true, maxRetries: 5 })
  })
  return path
}

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function ask(connectionString: string, query: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 5000 })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return (await client.query(query)).rows
  } finally {
    await client.end().catch(() => undefined)
  }
}
