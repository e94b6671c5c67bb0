import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { openDataDir, readSecrets, writeSecrets } from './data-dir.ts'
import { findPostgresBinaries } from './embedded-postgres-binaries.ts'
import {
  createCluster,
  databaseUser,
  lastLogLines,
  livePostmaster,
  resetPassword,
  writeSettings,
} from './embedded-postgres-cluster.ts'
import { findPostgresRunner, giveTo, ownerOf, type PostgresRunner } from './embedded-postgres-runner.ts'
import { BridgeError } from './errors.ts'
import { type DiskGuard, startDiskGuard } from './free-disk.ts'
import { anyFreePort, isFree } from './free-port.ts'
import { type Handle, handleOf } from './handle.ts'
import { takeInstanceLock } from './instance-lock.ts'
import type { Log } from './log.ts'
import { isAlive } from './process-alive.ts'

export interface EmbeddedPostgresOptions {
  readonly dataDir: string
  readonly host: string
  /** 0 picks a free one; one in use is passed over for the next. What was taken is kept for later starts. */
  readonly port: number
  readonly minFreeDiskMb: number
  readonly log: Log
}

export interface EmbeddedPostgres extends Handle {
  readonly databaseUrl: string
  readonly host: string
  readonly port: number
  /** Of the server now: another one after it was restarted. */
  readonly pid: number
  readonly dataPath: string
  /** How it runs where that is worth a word (as another user, elsewhere); empty otherwise. */
  readonly note: string
  /** True when the server of an earlier instance, which was killed, went on and is ours now. */
  readonly reusedOrphan: boolean
  readonly disk: DiskGuard
}

/** Postgres may have to end the children of a killed one, or replay its log, before it starts. */
const startMs = 10_000
const recoveryMs = 120_000

/**
 * Starts the packaged Postgres on the data folder, or takes over the one that a killed instance left running; stops it when closed.
 * While it is open, a server that dies is started again.
 * @throws BridgeError BRIDGE_EMBEDDED_POSTGRES, BRIDGE_DISK_FULL, BRIDGE_SECOND_INSTANCE (then the other's server goes on)
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { host, minFreeDiskMb, log } = options
  const dataDir = openDataDir(options.dataDir)
  const runner = await findPostgresRunner(dataDir, findPostgresBinaries(), readSecrets(dataDir).postgresPath)
  const { dataPath, note } = runner
  const disk = await startDiskGuard(dirname(dataPath), minFreeDiskMb, log)
  try {
    const server = new Server(runner, dataDir, options)
    await server.prepare()
    const { reused, lock } = await server.start()
    let closing = false
    const keeper = setInterval(() => {
      if (!closing) void server.keepAlive()
    }, 1000)
    keeper.unref()
    const close = async () => {
      closing = true
      clearInterval(keeper)
      await server.keeping // a restart under way must not outlive the stop
      await disk.close()
      await lock.close()
      await server.stop()
    }
    const handle = handleOf(close)
    return {
      ...handle,
      databaseUrl: server.url(databaseUser),
      host,
      port: server.port,
      get pid() {
        return server.pid
      },
      dataPath,
      note,
      reusedOrphan: reused,
      disk,
    }
  } catch (error) {
    await disk.close()
    throw error
  }
}

class Server {
  pid = 0
  port = 0
  keeping: Promise<void> | undefined
  readonly #runner: PostgresRunner
  readonly #dataDir: string
  readonly #options: EmbeddedPostgresOptions
  #password = ''

  constructor(runner: PostgresRunner, dataDir: string, options: EmbeddedPostgresOptions) {
    this.#runner = runner
    this.#dataDir = dataDir
    this.#options = options
  }

  url(database: string): string {
    const { host } = this.#options
    const address = host === '0.0.0.0' || host === '*' ? '127.0.0.1' : host === '::' ? '[::1]' : host
    const shown = address.includes(':') && !address.startsWith('[') ? `[${address}]` : address
    return `postgres://${databaseUser}:${this.#password}@${shown}:${this.port}/${database}`
  }

  /** Makes what is missing: password, cluster, ownership. */
  async prepare(): Promise<void> {
    const { dataPath, owner } = this.#runner
    const kept = readSecrets(this.#dataDir).postgresPassword
    this.#password = kept ?? randomBytes(24).toString('base64url')
    if (kept === undefined)
      writeSecrets(this.#dataDir, {
        postgresPassword: this.#password,
        ...(dataPath !== join(this.#dataDir, 'postgres') && { postgresPath: dataPath }),
      })
    const existing = ownerOf(dataPath)
    if (existing !== undefined && existing.uid !== owner.uid) {
      if (livePostmaster(dataPath) !== undefined)
        throw failed(`a Postgres of user ${existing.uid} runs on ${dataPath}; stop it first`)
      giveTo(dataPath, owner)
    }
    try {
      const made = await createCluster(this.#runner, this.#password)
      if (!made && kept === undefined) await this.#newPassword()
    } catch (error) {
      throw failed(`initdb failed on ${dataPath}`, error)
    }
  }

  async #newPassword(): Promise<void> {
    this.#options.log.warn('the secrets file is missing: the embedded Postgres gets a new password')
    if (livePostmaster(this.#runner.dataPath) !== undefined) await this.#stopServer()
    await resetPassword(this.#runner, this.#password)
  }

  async start(): Promise<{ reused: boolean; lock: Handle }> {
    for (let attempt = 0; ; attempt++) {
      const reused = await this.#reach()
      const lock = await takeInstanceLock(this.url('postgres'), 'server', this.#options.log)
      try {
        if (!reused || attempt > 0 || !writeSettings(this.#runner, this.#options.host, await this.#wantedPort())) {
          await this.#makeDatabase()
          this.#remember()
          return { reused: reused && attempt === 0, lock }
        }
      } catch (error) {
        await lock.close()
        throw error
      }
      // The orphan runs with other settings than this start wants.
      await lock.close()
      await this.#stopServer()
    }
  }

  /** Runs when it returns. @returns whether it ran before */
  async #reach(): Promise<boolean> {
    const { dataPath } = this.#runner
    let deadline = Date.now() + startMs
    const limit = Date.now() + recoveryMs
    let failure: unknown
    while (Date.now() < deadline) {
      const live = livePostmaster(dataPath)
      if (live === undefined) {
        failure = await this.#launch()
        if (failure === undefined) return false
      } else {
        this.port = live.port
        this.pid = live.pid
        failure = await this.#ping()
        if (failure === undefined) return true
        const { code } = failure as { code?: string }
        if (code === '28P01') await this.#newPassword() // the secrets file is another one's
        if (code === '57P03') deadline = Math.min(Date.now() + startMs, limit) // it starts, or replays its log
      }
      await sleep(200)
    }
    throw failed(`Postgres does not start on ${dataPath}. Its log ends with:\n${lastLogLines(dataPath)}`, failure)
  }

  async #launch(): Promise<unknown> {
    const { dataPath } = this.#runner
    this.port = await this.#wantedPort()
    writeSettings(this.#runner, this.#options.host, this.port)
    const seconds = String(recoveryMs / 1000)
    try {
      await this.#runner.run(
        'pg_ctl',
        ['start', '-w', '-t', seconds, '-D', dataPath, '-l', join(dataPath, 'start.log')],
        { timeoutMs: recoveryMs + 5000 },
      )
    } catch (error) {
      return error
    }
    this.pid = livePostmaster(dataPath)?.pid ?? 0
    return this.pid === 0 ? new Error('Postgres ended at once') : undefined
  }

  /** The one of the last start while the setting is the same, else the configured one; the next free one when that is taken. */
  async #wantedPort(): Promise<number> {
    const { host, port: configured } = this.#options
    const { postgresPort, postgresConfiguredPort } = readSecrets(this.#dataDir)
    const first = postgresConfiguredPort === configured && postgresPort ? postgresPort : configured
    if (livePostmaster(this.#runner.dataPath)?.port === first) return first
    if (first !== 0)
      for (let port = first; port < Math.min(first + 100, 65_536); port++) if (await isFree(port, host)) return port
    return await anyFreePort(host)
  }

  #remember(): void {
    const { postgresPort, postgresConfiguredPort } = readSecrets(this.#dataDir)
    const { port } = this.#options
    if (postgresPort !== this.port || postgresConfiguredPort !== port)
      writeSecrets(this.#dataDir, { postgresPort: this.port, postgresConfiguredPort: port })
  }

  async #ping(): Promise<unknown> {
    const client = this.#client('postgres', 2000)
    try {
      await client.connect()
      return undefined
    } catch (error) {
      return error
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  async #makeDatabase(): Promise<void> {
    const client = this.#client('postgres', 10_000)
    await client.connect()
    try {
      const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [databaseUser])
      if (rowCount === 0) await client.query(`CREATE DATABASE ${databaseUser}`)
    } finally {
      await client.end()
    }
  }

  #client(database: string, connectionTimeoutMillis: number): pg.Client {
    const client = new pg.Client({ connectionString: this.url(database), connectionTimeoutMillis })
    client.on('error', () => undefined) // the awaiting call says it
    return client
  }

  /** Starts it again when it died. One attempt at a time, for as long as it takes. */
  keepAlive(): Promise<void> {
    if (this.keeping === undefined && isAlive(this.pid)) return Promise.resolve()
    this.keeping ??= this.#revive().finally(() => (this.keeping = undefined))
    return this.keeping
  }

  async #revive(): Promise<void> {
    const { log } = this.#options
    const { port } = this
    log.error({ pid: this.pid }, 'the embedded Postgres died; starting it again')
    try {
      await this.#reach()
      if (this.port === port) log.info({ pid: this.pid }, 'the embedded Postgres is back')
      else log.error({ port: this.port }, 'the embedded Postgres is back on another port: restart fleetbridge')
    } catch (error) {
      log.error({ err: error }, 'the embedded Postgres did not come back; trying again')
    }
  }

  async stop(): Promise<void> {
    if (livePostmaster(this.#runner.dataPath) === undefined) return
    await this.#stopServer()
  }

  async #stopServer(): Promise<void> {
    const { run, dataPath } = this.#runner
    try {
      await run('pg_ctl', ['stop', '-w', '-t', '60', '-m', 'fast', '-D', dataPath], { timeoutMs: 65_000 })
    } catch (error) {
      if (livePostmaster(dataPath) !== undefined) throw failed(`Postgres on ${dataPath} does not stop`, error)
    }
  }
}

function failed(message: string, cause?: unknown): BridgeError {
  const { stderr, message: why } = (cause ?? {}) as Error & { stderr?: string }
  const detail = (stderr || why || '').trim()
  return new BridgeError('BRIDGE_EMBEDDED_POSTGRES', detail === '' ? message : `${message}\n${detail}`, { cause })
}
