import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { addDevices, addFleetCredential } from '#cli/registry.ts'
import { addAdminToken } from '#gateway/admin/registry/admin-tokens.ts'
import { freePort } from '#test/servers/free-port.ts'
import { freshTopicPrefix, migratedDatabase } from '#test/servers/fresh.ts'
import { BridgeProcess, run } from './process.ts'

export interface StackOptions {
  readonly kafkaBrokers: string
  readonly redisUrl?: string
  /** Absent: a fresh database on the shared server. */
  readonly databaseUrl?: string
  readonly env?: NodeJS.ProcessEnv
}

/** Gateway and worker as separate processes over real servers, on a database and topics of their own. */
export class Stack implements AsyncDisposable {
  readonly env: NodeJS.ProcessEnv
  readonly mqttPort: number
  readonly httpPort: number
  readonly gatewayOps: string
  readonly workerOps: string
  readonly database: pg.Pool
  gateway!: BridgeProcess
  worker!: BridgeProcess
  readonly #cleanUp: AsyncDisposableStack

  private constructor(env: NodeJS.ProcessEnv, ports: readonly number[], cleanUp: AsyncDisposableStack) {
    this.env = env
    this.mqttPort = ports[0] as number
    this.httpPort = ports[1] as number
    this.gatewayOps = `http://127.0.0.1:${ports[2]}`
    this.workerOps = `http://127.0.0.1:${ports[3]}`
    this.#cleanUp = cleanUp
    this.database = new pg.Pool({ connectionString: env.DATABASE_URL, max: 2 })
    this.database.on('error', () => {}) // tests stop Postgres on purpose
  }

  static async start({ kafkaBrokers, redisUrl, databaseUrl, env = {} }: StackOptions): Promise<Stack> {
    const cleanUp = new AsyncDisposableStack()
    const url = databaseUrl ?? cleanUp.use(await migratedDatabase()).url
    const ports = [await freePort(), await freePort(), await freePort(), await freePort()]
    const stack = new Stack(
      {
        KAFKA_BROKERS: kafkaBrokers,
        DATABASE_URL: url,
        ...(redisUrl && { REDIS_URL: redisOfThisFile(redisUrl) }),
        BRIDGE_KAFKA_TOPIC_PREFIX: freshTopicPrefix(),
        BRIDGE_MQTT_PORT: String(ports[0]),
        BRIDGE_HTTP_PORT: String(ports[1]),
        BRIDGE_ADMIN_PORT: '0',
        ...env,
      },
      ports,
      cleanUp,
    )
    cleanUp.defer(() => stack.database.end())
    await run(['init'], stack.env)
    await Promise.all([stack.startGateway(), stack.startWorker()])
    return stack
  }

  async startGateway(): Promise<void> {
    this.gateway = new BridgeProcess(['gateway'], { ...this.env, BRIDGE_OPS_PORT: new URL(this.gatewayOps).port })
    await this.gateway.until('/readyz is 200', () => ready(this.gatewayOps))
  }

  async startWorker(): Promise<void> {
    this.worker = new BridgeProcess(['worker'], { ...this.env, BRIDGE_OPS_PORT: new URL(this.workerOps).port })
    await this.worker.until('/readyz is 200', () => ready(this.workerOps))
  }

  /** Tokens of new devices, by name. */
  async addDevices(prefix: string, count: number): Promise<Map<string, string>> {
    const ids = Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)
    return this.#registered(async (client) => {
      const made = await addDevices(client, 'default', ids)
      return new Map(made.map(({ device, token }) => [device, token]))
    })
  }

  async addDevice(name: string): Promise<string> {
    return this.#registered(async (client) => (await addDevices(client, 'default', [name]))[0]?.token as string)
  }

  async addFleet(name: string): Promise<string> {
    return this.#registered(
      async (client) => (await addFleetCredential(client, { tenant: 'default', name, pattern: undefined })).token,
    )
  }

  async addAdmin(name: string): Promise<string> {
    const by = { actor: 'cli:test', makesTenants: false }
    return this.#registered(async (client) => (await addAdminToken(client, by, { name, role: 'admin' })).token)
  }

  /** Where the gateway serves the admin API: a free port, named in its start line. */
  async gatewayAdmin(): Promise<string> {
    const named = () => / admin (http:\/\/\S+)/.exec(this.gateway.output)?.[1]
    await this.gateway.until('it names the admin API', () => named() !== undefined)
    return named() as string
  }

  /** The registry's own functions, without a process for each; a moment later the gateway knows what they wrote. */
  async #registered<Result>(write: (client: pg.Client) => Promise<Result>): Promise<Result> {
    const client = new pg.Client(this.env.DATABASE_URL)
    await client.connect()
    try {
      return await write(client)
    } finally {
      await client.end()
      await sleep(100)
    }
  }

  async rows(
    where = 'true',
  ): Promise<{ device: string; metric: string; time: Date; value: number | null; text: string | null }[]> {
    return (
      await this.database.query(
        `SELECT device, metric, time, value, text FROM telemetry WHERE ${where} ORDER BY device, time, metric`,
      )
    ).rows
  }

  /** The sum of a metric's series whose labels contain all given texts. */
  async metric(base: string, name: string, ...labels: string[]): Promise<number> {
    const text = await (await fetch(`${base}/metrics`)).text()
    return text
      .split('\n')
      .filter(
        (line) =>
          (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) && labels.every((label) => line.includes(label)),
      )
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.gateway?.[Symbol.asyncDispose](), this.worker?.[Symbol.asyncDispose]()])
    await this.#cleanUp.disposeAsync()
  }
}

async function ready(base: string): Promise<boolean> {
  try {
    return (await fetch(`${base}/readyz`, { signal: AbortSignal.timeout(2000) })).ok
  } catch {
    return false
  }
}

/** Test files that run at the same time are installations of their own, also where they share a Redis: they have equal device names. */
function redisOfThisFile(redisUrl: string): string {
  return new URL(redisUrl).pathname.length > 1
    ? redisUrl
    : `${redisUrl}/${Number(process.env.VITEST_POOL_ID ?? 0) % 16}`
}
