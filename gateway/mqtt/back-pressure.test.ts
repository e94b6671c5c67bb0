import { setTimeout as sleep } from 'node:timers/promises'
import { generate } from 'mqtt-packet'
import { afterEach, describe, expect, it } from 'vitest'
import { stored } from '../verdict.ts'
import { RawClient } from './testing/raw-client.ts'
import { RecordingPipeline } from './testing/recording-pipeline.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource | undefined
const clients: RawClient[] = []
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test?.[Symbol.asyncDispose]()
})

async function connect(port: number, device: string, version: 4 | 5 = 4, more = {}): Promise<RawClient> {
  const client = await RawClient.connect(port, device, version, more)
  clients.push(client)
  return client
}

describe('a connection that pushes while nothing settles', () => {
  it('100,000 messages: only its share is read, memory stays bounded, another one is served, then all are taken in order', {
    timeout: 60_000,
  }, async () => {
    const pipeline = new RecordingPipeline('hold')
    test = await startTestSource({ holdMs: 60_000 }, pipeline)
    const pusher = await connect(test.port, 'pusher', 4, { keepalive: 0 })
    const bystander = await connect(test.port, 'bystander')
    const total = 100_000
    let sent = 0
    const write = () => {
      while (sent < total) {
        const chunk: Buffer[] = []
        for (let n = 0; n < 500; n++, sent++)
          chunk.push(
            generate({
              cmd: 'publish',
              topic: 'devices/me/telemetry',
              payload: `${sent}:${'x'.repeat(200)}`,
              qos: 1,
              messageId: (sent % 65_535) + 1,
              dup: false,
              retain: false,
            }),
          )
        if (!pusher.socket.write(Buffer.concat(chunk))) {
          pusher.socket.once('drain', write)
          return
        }
      }
    }
    const before = process.memoryUsage()
    write()
    await expect.poll(() => pipeline.pushed.length).toBe(100)
    await sleep(300)
    expect(pipeline.pushed).toHaveLength(100)
    expect(sent).toBeLessThan(total) // the kernel's buffers are full, so the sender waits
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    expect(heapUsed + arrayBuffers - before.heapUsed - before.arrayBuffers).toBeLessThan(30_000_000)
    bystander.publish(1, 'me too')
    await expect.poll(() => pipeline.pushed.length).toBe(101)
    pipeline.settle(100)
    expect(await bystander.answered(1)).toEqual([[1, 0]])
    bystander.send({ cmd: 'pingreq' })
    await bystander.next('pingresp')
    pipeline.verdict = () => stored
    pipeline.settleAll()
    await expect.poll(() => pipeline.pushed.length, { timeout: 30_000 }).toBe(total + 1)
    const numbers = pipeline.pushed
      .filter((_, index) => index !== 100)
      .map(({ ingress }) => Number.parseInt(ingress.payload.toString(), 10))
    expect(numbers.findIndex((number, index) => number !== index)).toBe(-1)
  })

  it('its bytes are bounded, too; a message larger than the share passes alone', async () => {
    const pipeline = new RecordingPipeline('hold')
    test = await startTestSource({ maxInHandBytes: 10_000 }, pipeline)
    const client = await connect(test.port, 'pump-1')
    client.publish(1, 'x'.repeat(20_000))
    client.publish(2, 'x'.repeat(6000))
    client.publish(3, 'x'.repeat(6000))
    await expect.poll(() => pipeline.pushed.length).toBe(1)
    pipeline.settleAll()
    await expect.poll(() => pipeline.pushed.length).toBe(2)
    await sleep(50)
    expect(pipeline.pushed).toHaveLength(2)
    pipeline.settleAll()
    await expect.poll(() => pipeline.pushed.length).toBe(3)
  })

  it('PINGREQ behind as many messages as MQTT 5 was told to have open is answered', async () => {
    const pipeline = new RecordingPipeline('hold')
    test = await startTestSource({ maxInHandMessages: 20 }, pipeline)
    const client = await connect(test.port, 'pump-1', 5)
    for (let n = 1; n <= 20; n++) client.publish(n, 'x')
    client.send({ cmd: 'pingreq' })
    await client.next('pingresp')
    expect(pipeline.pushed).toHaveLength(20)
  })

  it('a client that reconnects has no more than its share, with what it left in hand', async () => {
    const pipeline = new RecordingPipeline('hold')
    test = await startTestSource({ maxInHandMessages: 10 }, pipeline)
    for (let round = 0; round < 5; round++) {
      const client = await connect(test.port, 'pump-1')
      for (let n = 1; n <= 10; n++) client.publish(n, `${round} ${n}`)
      await expect.poll(() => pipeline.pushed.length).toBe(10)
      await sleep(30)
      client.destroy()
      await expect.poll(() => test?.count('fleetbridge_mqtt_connections')).toBe(0)
    }
    expect(pipeline.pushed).toHaveLength(10)
    const last = await connect(test.port, 'pump-1')
    last.publish(1, 'new')
    await sleep(30)
    expect(pipeline.pushed).toHaveLength(10)
    pipeline.settleAll()
    await expect.poll(() => pipeline.payloads.at(-1)).toBe('new')
  })

  it('DUPs of one message do not fill the memory', async () => {
    const pipeline = new RecordingPipeline('hold')
    test = await startTestSource({ maxInHandMessages: 10, holdMs: 60_000 }, pipeline)
    const client = await connect(test.port, 'pump-1', 4, { keepalive: 0 })
    client.publish(1, 'x')
    for (let n = 0; n < 5000; n++) client.publish(1, 'x', { dup: true })
    await sleep(200)
    expect(pipeline.pushed).toHaveLength(1)
    expect(await test.count('fleetbridge_mqtt_dup_joined_total')).toBe(19)
    pipeline.settleAll()
    expect((await client.answered(5001)).every(([id]) => id === 1)).toBe(true)
    expect(pipeline.pushed).toHaveLength(1)
  })
})

describe('QoS 0', () => {
  it('waits a moment for room while the pipeline moves: a burst loses nothing', async () => {
    const pipeline = new RecordingPipeline(() => stored)
    test = await startTestSource({ maxInHandMessages: 10 }, pipeline)
    const client = await connect(test.port, 'pump-1')
    client.send(
      ...Array.from({ length: 1000 }, (_, n) => ({
        cmd: 'publish' as const,
        topic: 'devices/me/telemetry',
        payload: `${n}`,
        qos: 0 as const,
        dup: false,
        retain: false,
      })),
    )
    await expect.poll(() => pipeline.pushed.length).toBe(1000)
    expect(pipeline.payloads).toEqual(Array.from({ length: 1000 }, (_, n) => `${n}`))
  })

  it('is dropped and counted when nothing moves, and what stands behind it is read', async () => {
    const pipeline = new RecordingPipeline('hold')
    test = await startTestSource({ maxInHandMessages: 10 }, pipeline)
    const client = await connect(test.port, 'pump-1')
    for (let n = 0; n < 50; n++) client.publish(0, `${n}`, { qos: 0 })
    client.send({ cmd: 'pingreq' })
    await client.next('pingresp')
    expect(pipeline.pushed).toHaveLength(10)
    expect(await test.count('fleetbridge_mqtt_qos0_dropped_total', { reason: 'queue_full' })).toBe(40)
    expect(test.refused).toHaveLength(40)
  })
})

describe('the clock of keep alive', () => {
  it('ends a connection that is silent for one and a half times as long', async () => {
    test = await startTestSource()
    for (const version of [4, 5] as const) {
      const client = await connect(test.port, 'pump-1', version, { keepalive: 1 })
      const startedMs = performance.now()
      await client.closed()
      expect(performance.now() - startedMs).toBeGreaterThan(1400)
      expect(client.packets).toEqual(version === 5 ? [expect.objectContaining({ reasonCode: 0x8d })] : [])
    }
  })

  it('stands still while we hold the connection up ourselves', async () => {
    const pipeline = new RecordingPipeline('hold')
    test = await startTestSource({ maxInHandMessages: 2 }, pipeline)
    const client = await connect(test.port, 'gw-1', 4, { keepalive: 1 })
    for (let n = 1; n <= 5; n++) client.publish(n, `${n}`)
    await expect.poll(() => pipeline.pushed.length).toBe(2)
    const lane = pipeline.pushed[0]?.lane
    if (lane === undefined) throw new Error('no lane')
    lane.blockedUntilMs = Number.POSITIVE_INFINITY // held at the limit of a fleet credential
    await sleep(3000)
    expect(client.isClosed).toBe(false)
    lane.blockedUntilMs = 0
    pipeline.verdict = () => stored
    pipeline.settleAll()
    await client.answered(5)
  })

  it('is off at keep alive 0', async () => {
    test = await startTestSource()
    const client = await connect(test.port, 'pump-1', 4, { keepalive: 0 })
    await sleep(1000)
    expect(client.isClosed).toBe(false)
  })
})

it('a client that does not read its PUBACKs is not read any more, either', { timeout: 60_000 }, async () => {
  const pipeline = new RecordingPipeline(() => stored)
  test = await startTestSource({}, pipeline)
  const client = await connect(test.port, 'pump-1', 4, { keepalive: 0 })
  client.socket.pause()
  const pings = Buffer.alloc(128 * 1024)
  for (let at = 0; at < pings.length; at += 2) pings[at] = 0xc0
  let written = 0
  const before = process.memoryUsage()
  for (; written < 400 && client.socket.writableLength < 4_000_000; written++) {
    client.socket.write(pings)
    await sleep(2)
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  expect(written).toBeLessThan(400)
  expect(heapUsed + arrayBuffers - before.heapUsed - before.arrayBuffers).toBeLessThan(40_000_000)
})
