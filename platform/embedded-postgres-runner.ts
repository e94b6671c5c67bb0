import { execFile } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  constants,
  cpSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import type { PostgresBinaries } from './embedded-postgres-binaries.ts'
import { BridgeError } from './errors.ts'

const execute = promisify(execFile)

export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** A way to run Postgres on this machine: as whom, with which binaries, on which folder. */
export interface PostgresRunner {
  /** Folder in which the cluster lies, or will: its parent exists. */
  readonly dataPath: string
  /** For the start line; empty when there is nothing to say. */
  readonly note: string
  /** Whom the cluster's files must belong to. */
  readonly owner: Owner
  /**
   * @param program initdb, pg_ctl or postgres, or the absolute path of another program
   * @throws the error of child_process, with `stdout` and `stderr`
   */
  run(program: string, args: readonly string[], more?: RunOptions): Promise<string>
  /** What `run` runs, for those who start it themselves. */
  command(program: string, args: readonly string[]): RunnerCommand
  /** Folder of initdb, pg_ctl and postgres. */
  readonly binaries: string
}

export interface RunnerCommand {
  readonly file: string
  readonly args: string[]
  readonly uid?: number
  readonly gid?: number
}

export interface RunOptions {
  readonly input?: string
  readonly timeoutMs?: number
}

/** Where binaries and data go that Postgres' user cannot reach where they are. */
const shelter = '/var/lib/fleetbridge'

/**
 * Postgres refuses to run as root. As root it runs as `postgres` or `nobody`; where that user cannot reach the folders, in a user namespace
 * that only looks like another user; where that is forbidden, from copies below /var/lib/fleetbridge. Each way is tried before it is taken.
 * @param knownPath where an earlier start put the cluster, when not in the data folder
 * @throws BridgeError BRIDGE_EMBEDDED_POSTGRES that names what was tried
 */
export async function findPostgresRunner(
  dataDir: string,
  binaries: PostgresBinaries,
  knownPath: string | undefined,
): Promise<PostgresRunner> {
  const dataPath = knownPath ?? join(dataDir, 'postgres')
  const failures: string[] = []
  for (const way of waysFor(dataPath, binaries, knownPath !== undefined)) {
    try {
      const runner = way.make()
      await probe(runner)
      return runner
    } catch (error) {
      const { message, stderr = '' } = error as Error & { stderr?: string }
      failures.push(`  - ${(stderr || message).trim().split('\n').slice(-1)[0]}`)
    }
  }
  throw new BridgeError(
    'BRIDGE_EMBEDDED_POSTGRES',
    `the embedded Postgres cannot run on ${dataPath}:\n${failures.join('\n')}\n` +
      'Start as the user that owns the folder, name another one in BRIDGE_DATA_DIR, or set DATABASE_URL to a Postgres of your own.',
  )
}

interface Way {
  readonly owner: Owner
  make(): PostgresRunner
}

function waysFor(dataPath: string, binaries: PostgresBinaries, sheltered: boolean): Way[] {
  const me: Owner = { uid: process.getuid?.() ?? -1, gid: process.getgid?.() ?? -1 }
  const existing = ownerOf(dataPath)
  if (me.uid !== 0) return [{ owner: me, make: () => runner(me, binaries.root, ownPath(dataPath, me, existing), '') }]
  const users = systemUsers()
  if (existing !== undefined && existing.uid !== 0 && !users.some(({ uid }) => uid === existing.uid))
    users.push({ ...existing, name: `user ${existing.uid}` })
  const copied = users.map((owner) => ({ owner, make: () => shelteredRunner(owner, binaries, dataPath, sheltered) }))
  const inPlace = users.map((owner) => ({
    owner,
    make: () => runner(owner, binaries.root, dataPath, `as user ${owner.name}`, owner),
  }))
  const namespace = {
    owner: me,
    make: () => runner(me, binaries.root, dataPath, 'in a user namespace, since root may not run it', 'namespace'),
  }
  // A cluster that is there is not left behind for an empty one elsewhere.
  const ways: Way[] = sheltered
    ? copied
    : existing === undefined
      ? [...inPlace, namespace, ...copied]
      : [...inPlace, namespace]
  const keeps = ({ owner }: Way) => owner.uid === existing?.uid // and stays with its owner if it can
  return [...ways.filter(keeps), ...ways.filter((way) => !keeps(way))]
}

function ownPath(dataPath: string, me: Owner, existing: Owner | undefined): string {
  if (existing !== undefined && existing.uid !== me.uid)
    throw new Error(`${dataPath} belongs to user ${existing.uid}, and this is user ${me.uid}`)
  return dataPath
}

function shelteredRunner(
  owner: Owner & { name: string },
  binaries: PostgresBinaries,
  dataPath: string,
  already: boolean,
): PostgresRunner {
  const path = already ? dataPath : join(shelter, shelterName(dataPath), 'postgres')
  mkdirSync(join(path, '..'), { recursive: true, mode: 0o711 })
  chmodSync(shelter, 0o711)
  const note = `as user ${owner.name}, who cannot reach ${already ? 'the data folder' : dataPath}; its data is in ${path}`
  return runner(owner, copyBinaries(binaries), path, note, owner)
}

function runner(owner: Owner, root: string, dataPath: string, note: string, as?: 'namespace' | Owner): PostgresRunner {
  const command = (program: string, args: readonly string[]): RunnerCommand => {
    const file = program.startsWith('/') ? program : join(root, 'bin', program)
    if (as !== 'namespace') return { file, args: [...args], ...(as && { uid: as.uid, gid: as.gid }) }
    return { file: 'unshare', args: ['--user', '--map-user=65534', '--map-group=65534', '--', file, ...args] }
  }
  return {
    dataPath,
    note,
    owner,
    binaries: join(root, 'bin'),
    command,
    async run(program, args, { input, timeoutMs = 60_000 } = {}) {
      const { file, args: fileArgs, ...user } = command(program, args)
      const running = execute(file, fileArgs, {
        cwd: '/', // ours may be closed to the other user
        env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' }, // PGPORT and its like must not reach it
        timeout: timeoutMs,
        maxBuffer: 8 * 1024 ** 2,
        ...user,
      })
      running.child.stdin?.on('error', () => undefined) // it may end before it has read
      running.child.stdin?.end(input ?? '')
      return (await running).stdout
    },
  }
}

/** Runs the real program, and writes a file where the cluster will be, as the user who will. */
async function probe(candidate: PostgresRunner): Promise<void> {
  await candidate.run('postgres', ['--version'])
  const folder = join(candidate.dataPath, '..', `.probe-${randomUUID()}`)
  mkdirSync(folder, { mode: 0o700 })
  try {
    chownSync(folder, candidate.owner.uid, candidate.owner.gid)
    await candidate.run('/bin/sh', ['-c', 'cd -- "$1" && : > file', 'sh', folder])
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Gives the whole folder to another user; nothing may run on it. */
export function giveTo(path: string, { uid, gid }: Owner): void {
  lchownSync(path, uid, gid)
  if (!lstatSync(path).isDirectory()) return
  for (const name of readdirSync(path)) giveTo(join(path, name), { uid, gid })
}

export function ownerOf(path: string): Owner | undefined {
  try {
    const { uid, gid } = lstatSync(path)
    return { uid, gid }
  } catch {
    return undefined
  }
}

function systemUsers(): (Owner & { name: string })[] {
  const lines = existsSync('/etc/passwd') ? readFileSync('/etc/passwd', 'utf8').split('\n') : []
  return ['postgres', 'nobody'].flatMap((name) => {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(':') ?? []
    return uid === undefined || gid === undefined ? [] : [{ name, uid: Number(uid), gid: Number(gid) }]
  })
}

/** Two data folders of the same name keep apart. */
function shelterName(dataPath: string): string {
  const hash = createHash('sha256').update(dataPath).digest('hex').slice(0, 12)
  return `${basename(join(dataPath, '../..')) || 'root'}-${hash}`
}

function copyBinaries({ root, version }: PostgresBinaries): string {
  const target = join(shelter, `binaries-${version}`)
  if (existsSync(target)) return target
  const temporary = `${target}.${process.pid}.tmp`
  cpSync(root, temporary, { recursive: true, verbatimSymlinks: true, mode: constants.COPYFILE_FICLONE })
  chmodSync(temporary, 0o755)
  try {
    renameSync(temporary, target)
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true })
    if (!existsSync(target)) throw error // another start was faster
  }
  return target
}
