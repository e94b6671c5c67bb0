import { setTimeout as sleep } from 'node:timers/promises'
import mqtt from 'mqtt'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { type KafkaServer, startKafka } from '#test/servers/kafka.ts'
import { type PostgresServer, startPostgres } from '#test/servers/postgres.ts'
import { type RedisServer, startRedis } from '#test/servers/redis.ts'
import { BridgeProcess } from '#test/stack/process.ts'
import { Stack } from '#test/stack/stack.ts'

/** Messages a second, and how long Postgres is away: higher than this when run by hand, `FAULT_RATE=2000 FAULT_AWAY_MS=20000 npm test -- test/fault/kill`. */
const rate = Number(process.env.FAULT_RATE ?? 500)
const awayMs = Number(process.env.FAULT_AWAY_MS ?? 8000)
/** Of the scenario that runs beside it: a fleet of every kind. */
const devices = Number(process.env.FAULT_DEVICES ?? 60)

let kafka: KafkaServer
let redis: RedisServer
let postgres: PostgresServer
let stack: Stack

beforeAll(async () => {
  ;[kafka, redis, postgres] = await Promise.all([startKafka(), startRedis(), startPostgres({ durable: true })])
  stack = await Stack.start({ kafkaBrokers: kafka.brokers, redisUrl: redis.url, databaseUrl: postgres.url })
})
afterAll(async () => {
  await stack?.[Symbol.asyncDispose]()
  await Promise.all([kafka?.close(), redis?.close(), postgres?.close()])
})

interface Audit {
  readonly sent: number
  readonly acked: number
  readonly missing: number
  readonly doubled: number
}

/** A fleet at an open-loop rate in a process of its own, audited against the rows at its end, while the fault happens. */
async function underLoad(seconds: number, fault: () => Promise<void>): Promise<Audit> {
  const before = await stored()
  const simulate = new BridgeProcess(
    [
      'simulate',
      '--mqtt',
      '--url',
      `mqtt://127.0.0.1:${stack.mqttPort}`,
      '--devices',
      '50',
      '--rate',
      String(rate),
      '--duration',
      `${seconds}s`,
      '--json',
    ],
    stack.env,
  )
  await simulate.until('messages are stored', async () => (await stored()) > before)
  await sleep(2000)
  await fault()
  const code = await simulate.exited
  const report = simulate.output.slice(simulate.output.lastIndexOf('\n{') + 1)
  expect(code, simulate.output).toBe(0)
  return JSON.parse(report.slice(report.indexOf('{'))) as Audit
}

async function timed(what: string, step: () => Promise<void>): Promise<void> {
  const started = performance.now()
  await step()
  console.info(`${what}: ${Math.round(performance.now() - started)} ms`)
}

/** A scenario's fleet meanwhile; resolves with its audit. */
function scenario(seconds: number): () => Promise<Record<string, number>> {
  const urls = [`mqtt://127.0.0.1:${stack.mqttPort}`, `http://127.0.0.1:${stack.httpPort}`]
  const flags = ['--devices', String(devices), '--duration', `${seconds}s`, '--json']
  const simulate = new BridgeProcess(
    ['simulate', '--scenario', 'factory', ...flags, ...urls.flatMap((url) => ['--url', url])],
    stack.env,
  )
  return async () => {
    await simulate.exited
    const report = JSON.parse(simulate.output.slice(simulate.output.indexOf('{"run"'))) as {
      seed: number
      counts: Record<string, number>
      audit: Record<string, number>
    }
    console.info(`scenario: SEED=${report.seed} ${JSON.stringify(report.counts)} ${JSON.stringify(report.audit)}`)
    return report.audit
  }
}

const stored = () =>
  stack.metric(stack.workerOps, 'fleetbridge_stored_messages_total', 'result="stored"').catch(() => 0)
const storesAgain = async () => {
  const before = await stored()
  await vi.waitFor(async () => expect(await stored()).toBeGreaterThan(before), { timeout: 40_000, interval: 20 })
}

it('kill -9 of worker, gateway and Kafka in turn under load: no acknowledged number missing or doubled', {
  timeout: 180_000,
}, async () => {
  const fleet = scenario(38)
  const audit = await underLoad(40, async () => {
    await stack.worker.stop('SIGKILL')
    await timed('worker: killed to storing again', async () => {
      await stack.startWorker()
      await storesAgain()
    })
    await sleep(2000)
    await stack.gateway.stop('SIGKILL')
    await timed('gateway: killed to storing again', async () => {
      await stack.startGateway()
      await storesAgain()
    })
    await sleep(2000)
    await kafka.kill('SIGKILL')
    await timed('Kafka: killed to storing again', async () => {
      await kafka.restart()
      await storesAgain()
    })
  })
  console.info(`audit: ${JSON.stringify(audit)}`)
  expect(audit).toMatchObject({ missing: 0, doubled: 0 })
  expect(audit.acked).toBeGreaterThan(5000)
  expect(await fleet()).toMatchObject({ missing: 0, phantom: 0, doubled: 0, reordered: 0 })
})

it('Redis stopped: ingest goes on and the counter moves', { timeout: 60_000 }, async () => {
  const audit = await underLoad(10, async () => {
    await redis.kill()
    await sleep(3000)
    expect(await stack.metric(stack.gatewayOps, 'fleetbridge_rate_limiter_fallback_total')).toBeGreaterThan(0)
    await redis.restart()
  })
  expect(audit).toMatchObject({ missing: 0, doubled: 0 })
})

it('Postgres stopped for a while: nothing lost, devices reconnect meanwhile, lag drains', {
  timeout: 90_000,
}, async () => {
  const token = await stack.addDevice('returning')
  const audit = await underLoad(12 + awayMs / 1000, async () => {
    await postgres.kill('SIGKILL')
    const answer = await fetch(`http://127.0.0.1:${stack.httpPort}/v1/telemetry`, { method: 'POST' })
    expect(answer.status, 'credentials are in memory: wrong ones are still told apart').toBe(401)
    expect((await fetch(`${stack.gatewayOps}/readyz`)).status).toBe(200)
    const client = await mqtt.connectAsync({
      host: '127.0.0.1',
      port: stack.mqttPort,
      clientId: 'returning',
      username: 'returning',
      password: token,
      reconnectPeriod: 0,
    })
    await client.publishAsync('devices/me/telemetry', '{"ts":1790000000000,"values":{"n":1}}', { qos: 1 })
    await client.endAsync()
    await sleep(awayMs)
    await timed('Postgres: start to storing again', async () => {
      await postgres.restart()
      await storesAgain()
    })
  })
  console.info(`audit: ${JSON.stringify(audit)}`)
  expect(audit).toMatchObject({ missing: 0, doubled: 0 })
  expect(await stack.rows(`device = 'returning'`)).toHaveLength(1)
  await vi.waitFor(
    async () => expect(await stack.metric(stack.workerOps, 'fleetbridge_consumer_lag_records')).toBe(0),
    { timeout: 20_000 },
  )
})
