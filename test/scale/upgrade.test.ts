import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import { encodeTelemetry } from '#schema/telemetry-record.ts'
import { numberedEvent } from '#test/kafka/topics.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import { Stack } from '#test/stack/stack.ts'

// This version beside the next one: its tables, its records and its producers, as they meet in the middle of an upgrade.
const brokers = inject('kafkaBrokers')
let stack: Stack
let token: string

beforeAll(async () => {
  stack = await Stack.start({ kafkaBrokers: brokers, redisUrl: inject('redisUrl') })
  token = await stack.addDevice('pump-1')
})
afterAll(() => stack?.[Symbol.asyncDispose]())

/** Runs a command that ought to end by itself; one that does not is stopped, and is a failure. */
async function ending(args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  await using process = new BridgeProcess(args, env)
  const late = setTimeout(() => void process.stop(), 15_000)
  expect(await process.exited, process.output).toBe(1)
  clearTimeout(late)
  return process.output
}

async function send(value: number): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${stack.httpPort}/v1/telemetry`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ values: { level: value } }),
  })
  return answer.status
}

const levels = async () => (await stack.rows(`device = 'pump-1' AND metric = 'level'`)).map(({ value }) => value)

it('old processes go on, and start again, on a database that a newer version has expanded', async () => {
  await expect.poll(() => send(1)).toBe(202)
  // As a later version's init leaves it: a column that readers of today do not know, and its word that they may stay.
  for (const statement of [
    'ALTER TABLE reading ADD COLUMN quality smallint',
    'ALTER TABLE device ADD COLUMN firmware text',
    `INSERT INTO drizzle.fleetbridge_compatibility VALUES (99999999999999, '0900_expand', '0001_security')`,
    `INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('future', 99999999999999)`,
  ])
    await stack.database.query(statement)
  expect(await send(2)).toBe(202)
  expect(await stack.worker.stop()).toBe(0)
  await stack.startWorker()
  expect(await stack.gateway.stop()).toBe(0)
  await stack.startGateway()
  expect(await send(3)).toBe(202)
  await vi.waitFor(async () => expect(await levels()).toEqual([1, 2, 3]))
  for (const { output } of [stack.worker, stack.gateway])
    expect(output).toMatch(/0900_expand.*a newer version, which lets this one run/s)
  expect(await run(['init'], stack.env), 'as compose runs it at every start').toContain('the tables were up to date')
})

it('refuses to start when a newer version has contracted it, and names what to do', async () => {
  await stack.database.query(
    `UPDATE drizzle.fleetbridge_compatibility SET since = '0900_expand' WHERE tag = '0900_expand'`,
  )
  const env = { ...stack.env, BRIDGE_OPS_PORT: '0', BRIDGE_MQTT_PORT: '0', BRIDGE_HTTP_PORT: '0' }
  const outputs = await Promise.all(['worker', 'gateway', 'init'].map((command) => ending([command], env)))
  for (const output of outputs) expect(output).toMatch(/BRIDGE_SCHEMA_NEWER.*0900_expand.*start the newer version/s)
  await stack.database.query(
    `UPDATE drizzle.fleetbridge_compatibility SET since = '0001_security' WHERE tag = '0900_expand'`,
  )
})

it('reads what a newer gateway writes: unknown fields and headers are left alone, another `v` is parked whole and told', async () => {
  const { telemetry } = kafkaTopics(stack.env.BRIDGE_KAFKA_TOPIC_PREFIX as string)
  const now = encodeTelemetry(numberedEvent('pump-2', 1))
  const event = numberedEvent('pump-2', 2)
  const wider = encodeTelemetry({
    ...event,
    ...{ site: { id: 7, names: ['north'] }, trace: 'a1b2' },
    readings: event.readings.map((reading) => ({ ...reading, ...{ quality: 3, bounds: [1, 2] } })),
  })
  const next = { ...encodeTelemetry(numberedEvent('pump-2', 3)) }
  const nextValue = String(next.value).replace('"v":1', '"v":2').replace('"readings"', '"series"')
  const future = {
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    schema: 'fleetbridge.telemetry.v1.1',
  }
  const producer = createKafka([brokers], 'next-version', silentLog).producer()
  await producer.connect()
  await producer.send({
    topic: telemetry,
    messages: [
      { key: now.key, value: now.value, headers: { ...now.headers } },
      { key: wider.key, value: wider.value, headers: { ...wider.headers, ...future } },
      { key: next.key, value: nextValue, headers: { ...next.headers, ...future } },
      { key: now.key, value: encodeTelemetry(numberedEvent('pump-2', 4)).value },
    ],
  })
  await producer.disconnect()
  await vi.waitFor(async () =>
    expect((await stack.rows(`device = 'pump-2'`)).map(({ value }) => value)).toEqual([1, 2, 4]),
  )
  const { rows: letters } = await stack.database.query(
    `SELECT tenant, device, code, stage, acknowledged, message, payload FROM dead_letter WHERE device = 'pump-2'`,
  )
  expect(letters).toEqual([
    {
      tenant: 'default',
      device: 'pump-2',
      code: 'unsupported',
      stage: 'store',
      acknowledged: true,
      message: expect.stringContaining('upgrade the workers'),
      payload: Buffer.from(nextValue),
    },
  ])
  expect(stack.worker.output).toContain('records of a newer version are parked: upgrade the workers')
})
