import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { findPostgresBinaries } from '#platform/embedded-postgres-binaries.ts'
import { findPostgresRunner } from '#platform/embedded-postgres-runner.ts'
import { freePort } from './free-port.ts'
import { type ServerProcess, startServerProcess } from './server-process.ts'

export interface PostgresServer extends ServerProcess {
  readonly url: string
  readonly port: number
  /** Folder of the cluster; to be copied while the server is stopped. */
  readonly dataPath: string
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
  // Reachable for the user that Postgres runs as; where the whole checkout is not, the runner knows another way.
  await chmod(dir, 0o711)
  const runner = await findPostgresRunner(dir, findPostgresBinaries(), undefined)
  const { dataPath, owner } = runner
  const passwordFile = join(dir, 'password')
  await writeFile(passwordFile, 'postgres')
  await mkdir(dataPath, { mode: 0o700 })
  for (const path of [passwordFile, dataPath]) await chown(path, owner.uid, owner.gid)
  const login = ['-U', 'postgres', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`]
  await runner.run('initdb', ['-D', dataPath, ...login, '-E', 'UTF8', '--locale=C', '-N'])
  const settings = [
    'listen_addresses=127.0.0.1',
    `port=${port}`,
    'unix_socket_directories=',
    'max_connections=200',
    'max_locks_per_transaction=256',
  ]
  if (!options.durable) settings.push('fsync=off', 'full_page_writes=off')
  const url = `postgres://postgres:postgres@127.0.0.1:${port}/postgres`
  const server = await startServerProcess({
    name: 'Postgres',
    file: join(runner.binaries, 'postgres'),
    args: ['-D', dataPath, ...settings.flatMap((setting) => ['-c', setting])],
    cwd: '/',
    as: runner.command,
    logFile: join(dir, 'postgres.log'),
    ready: () => answers(url),
    startMs: 20_000,
  })
  const close = async () => {
    await server.close('SIGQUIT')
    if (options.dir === undefined) for (const path of [dataPath, dir]) await rm(path, { recursive: true, force: true })
  }
  return Object.defineProperties(
    { ...server, url, port, dataPath, close, [Symbol.asyncDispose]: close },
    { pid: { get: () => server.pid } },
  )
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
