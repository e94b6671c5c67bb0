import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { PostgresRunner } from './embedded-postgres-runner.ts'
import { isAlive, isZombie } from './process-alive.ts'

export const databaseUser = 'fleetbridge'

/**
 * Makes the cluster. It gets its final name by rename, so whatever has that name is whole; the leftovers of an interrupted attempt are removed.
 * @returns false when there was one already
 */
export async function createCluster(runner: PostgresRunner, password: string): Promise<boolean> {
  const { dataPath, owner } = runner
  const parent = dirname(dataPath)
  const prefix = `${basename(dataPath)}.new-`
  for (const name of readdirSync(parent))
    if (name.startsWith(prefix) && !isAlive(Number(name.slice(prefix.length))))
      rmSync(join(parent, name), { recursive: true, force: true })
  if (existsSync(join(dataPath, 'PG_VERSION'))) return false
  const work = join(parent, `${prefix}${process.pid}`)
  mkdirSync(work, { mode: 0o700 })
  try {
    const passwordFile = join(work, 'password')
    writeFileSync(passwordFile, password, { mode: 0o600 })
    for (const path of [work, passwordFile]) chownSync(path, owner.uid, owner.gid)
    // The builtin locale sorts alike on every machine, and an update of the system's C library breaks no index.
    const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
    const login = [`--username=${databaseUser}`, '--auth=scram-sha-256', `--pwfile=${passwordFile}`]
    await runner.run('initdb', ['-D', join(work, 'data'), ...locale, ...login], { timeoutMs: 120_000 })
    rmSync(dataPath, { recursive: true, force: true }) // without PG_VERSION it is nothing
    renameSync(join(work, 'data'), dataPath)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return true
}

/** Sets the password without a server and without the old one: for a cluster whose secrets file was lost. */
export async function resetPassword({ run, dataPath }: PostgresRunner, password: string): Promise<void> {
  await run('postgres', ['--single', '-D', dataPath, 'postgres'], {
    input: `ALTER ROLE ${databaseUser} PASSWORD '${password}'\n`, // ours: base64url, nothing to escape
  })
}

/**
 * Writes our settings, read after postgresql.conf's own and before what an operator adds below.
 * @returns whether they differ from those that were there
 */
export function writeSettings({ dataPath, owner }: PostgresRunner, host: string, port: number): boolean {
  const changes = [
    writeOwned(join(dataPath, 'fleetbridge.conf'), settings(host, port), owner),
    // Passwords from every address: listen_addresses says who can come at all.
    writeOwned(join(dataPath, 'pg_hba.conf'), 'host all all all scram-sha-256\n', owner),
  ]
  const main = join(dataPath, 'postgresql.conf')
  const text = readFileSync(main, 'utf8')
  const include = "include_if_exists = 'fleetbridge.conf'"
  if (!text.includes(include))
    changes.push(writeOwned(main, `${text}\n${include}\n# your own settings below win\n`, owner))
  return changes.includes(true)
}

function writeOwned(path: string, text: string, { uid, gid }: PostgresRunner['owner']): boolean {
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return false
  writeFileSync(`${path}.tmp`, text, { mode: 0o600 })
  chownSync(`${path}.tmp`, uid, gid)
  renameSync(`${path}.tmp`, path)
  return true
}

/** Durable: fsync, synchronous_commit and full_page_writes keep their defaults (on). */
const settings = (host: string, port: number) => `# written at every start
listen_addresses = '${host.replaceAll("'", "''")}'
port = ${port}
unix_socket_directories = '' # a socket's path may be 107 bytes long, and ours may not fit
max_connections = 100
shared_buffers = 128MB
effective_cache_size = 512MB
work_mem = 8MB
maintenance_work_mem = 64MB
max_wal_size = 1GB
wal_buffers = 16MB
max_locks_per_transaction = 256 # a query over all partitions locks each
random_page_cost = 1.1
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = on
log_directory = 'log'
log_filename = 'postgres-%a.log' # a week of them
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_min_error_statement = panic # statements hold what devices sent
`

/** The server that runs on this cluster, by its own lock file; undefined when none does. */
export function livePostmaster(dataPath: string): { pid: number; port: number } | undefined {
  const path = join(dataPath, 'postmaster.pid')
  let lines: string[]
  try {
    lines = readFileSync(path, 'utf8').split('\n')
  } catch {
    return undefined
  }
  const pid = Number(lines[0])
  const isPostgres = isAlive(pid) && !isSomethingElse(pid)
  if (isPostgres) return { pid, port: Number(lines[3]) }
  // Postgres takes any process of that id for a server of its own: a zombie, or what got the id after a container's restart.
  if ((isZombie(pid) || isAlive(pid)) && !isAttached(lines[6])) rmSync(path, { force: true })
  return undefined
}

/** Whether children of a killed server still hold its shared memory; they end by themselves. */
function isAttached(keyAndId: string | undefined): boolean {
  const id = keyAndId?.trim().split(/\s+/)[1]
  try {
    const rows = readFileSync('/proc/sysvipc/shm', 'utf8').split('\n').slice(1)
    return rows.some((row) => {
      const fields = row.trim().split(/\s+/)
      return fields[1] === id && Number(fields[6]) > 0
    })
  } catch {
    return false
  }
}

function isSomethingElse(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== 'postgres'
  } catch {
    return false // no /proc here
  }
}

/** The end of what the server last wrote. */
export function lastLogLines(dataPath: string): string {
  const files = [join(dataPath, 'start.log')]
  const folder = join(dataPath, 'log')
  if (existsSync(folder)) for (const name of readdirSync(folder).slice(-1)) files.push(join(folder, name))
  return files
    .filter((file) => existsSync(file))
    .flatMap((file) => readFileSync(file, 'utf8').trimEnd().split('\n').slice(-6))
    .filter((line) => !line.includes('redirecting log output') && !line.includes('Future log output'))
    .map((line) => `  ${line}`)
    .join('\n')
}
