import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '#test/servers/free-port.ts'
import type { KafkaServer } from '#test/servers/kafka.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { startRedis } from '#test/servers/redis.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

export interface BenchedFleetbridge extends AsyncDisposable {
  readonly mqttPort: number
  readonly httpPort: number
  readonly databaseUrl: string
  /** Lines of device,token. */
  readonly csv: string
  readonly pids: Readonly<Record<string, number>>
  /** Records that the worker has not stored yet, by its own metric. */
  lag(): Promise<number>
}

/** A gateway and a worker as processes of their own, with a Postgres that syncs, and a fleet that is registered. */
export async function startFleetbridge(
  kafka: KafkaServer,
  dir: string,
  { devices, partitions, redis: withRedis }: { devices: number; partitions: number; redis: boolean },
): Promise<BenchedFleetbridge> {
  await using opened = new AsyncDisposableStack()
  const postgres = opened.use(await startPostgres({ durable: true }))
  const redis = withRedis ? opened.use(await startRedis()) : undefined
  const [mqttPort, httpPort] = [await freePort(), await freePort()]
  const env = {
    KAFKA_BROKERS: kafka.brokers,
    DATABASE_URL: postgres.url,
    ...(redis && { REDIS_URL: redis.url }),
    BRIDGE_KAFKA_TOPIC_PREFIX: 'bench',
    BRIDGE_KAFKA_PARTITIONS: String(partitions),
    BRIDGE_MQTT_PORT: String(mqttPort),
    BRIDGE_HTTP_PORT: String(httpPort),
    BRIDGE_ADMIN_PORT: '0',
    BRIDGE_LOG_LEVEL: 'warn',
    // What is measured is the path: 100 devices that send as fast as they can would each meet the default limit.
    BRIDGE_LIMITS_DEVICE: '100000:1',
  }
  await run(['init'], env)
  const csv = join(dir, 'fleet.csv')
  writeFileSync(csv, await run(['devices', 'add', '--count', String(devices), '--prefix', 'bench-', '--csv'], env))
  const [gateway, worker] = [await start(opened, 'gateway', env), await start(opened, 'worker', env)]
  const parts = opened.move()
  return {
    mqttPort,
    httpPort,
    databaseUrl: postgres.url,
    csv,
    pids: {
      gateway: gateway.process.pid,
      worker: worker.process.pid,
      Kafka: kafka.pid,
      Postgres: postgres.pid,
      ...(redis && { Redis: redis.pid }),
    },
    async lag() {
      const text = await (await fetch(`http://127.0.0.1:${worker.opsPort}/metrics`)).text()
      const lines = text.matchAll(/^fleetbridge_consumer_lag_records(?:\{[^}]*\})? (\d+)/gm)
      return [...lines].reduce((sum, [, value]) => sum + Number(value), 0)
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

async function start(opened: AsyncDisposableStack, command: 'gateway' | 'worker', env: NodeJS.ProcessEnv) {
  const opsPort = await freePort()
  const process = opened.use(new BridgeProcess([command], { ...env, BRIDGE_OPS_PORT: String(opsPort) }))
  await process.until(`${command} is ready`, async () => {
    const answer = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => undefined)
    return answer?.ok === true
  })
  return { process, opsPort }
}
