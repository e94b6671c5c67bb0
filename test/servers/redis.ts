import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './free-port.ts'
import { accepts, run, type ServerProcess, startServerProcess } from './server-process.ts'

export interface RedisServer extends ServerProcess {
  readonly url: string
  readonly port: number
}

/** A Redis without persistence: it is empty after every start. */
export async function startRedis(options: { dir?: string; port?: number } = {}): Promise<RedisServer> {
  await needRedis()
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'fleetbridge-redis-')))
  const port = options.port ?? (await freePort())
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'no']
  const server = await startServerProcess({
    name: 'Redis',
    file: 'redis-server',
    args,
    logFile: join(dir, 'redis.log'),
    ready: () => accepts(port),
    startMs: 15_000,
  })
  const close = async () => {
    await server.close('SIGKILL')
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
  }
  return Object.defineProperties(
    { ...server, url: `redis://127.0.0.1:${port}`, port, close, [Symbol.asyncDispose]: close },
    { pid: { get: () => server.pid } },
  )
}

const installLine = 'apt-get install -y redis-server'

async function needRedis(): Promise<void> {
  if (await hasRedis()) return
  if (process.getuid?.() === 0) {
    // Without a policy Debian starts the service at once, on the port that people use.
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
    await run('apt-get', ['install', '-y', 'redis-server'], { timeout: 240_000, env }).catch(async () => {
      await run('apt-get', ['update'], { timeout: 120_000, env }).catch(() => undefined)
      await run('apt-get', ['install', '-y', 'redis-server'], { timeout: 240_000, env }).catch(() => undefined)
    })
    if (await hasRedis()) return
  }
  throw new Error(`the tests need "redis-server", which is not on PATH. Install it: ${installLine}`)
}

const hasRedis = () =>
  run('redis-server', ['--version']).then(
    () => true,
    () => false,
  )
