import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { stored, type Verdict } from '../verdict.ts'
import { RawClient } from './testing/raw-client.ts'
import { RecordingPipeline } from './testing/recording-pipeline.ts'
import { seeded } from './testing/seeded.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
let pipeline: RecordingPipeline
const clients: RawClient[] = []

beforeEach(async () => {
  pipeline = new RecordingPipeline('hold')
  test = await startTestSource({}, pipeline)
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
})

async function connect(device = 'pump-1', version: 3 | 4 | 5 = 4, more = {}): Promise<RawClient> {
  const client = await RawClient.connect(test.port, device, version, more)
  clients.push(client)
  return client
}

const pushed = (count: number) => expect.poll(() => pipeline.pushed.length, { interval: 2, timeout: 3000 }).toBe(count)
/** Waits until the source has read everything that was written. */
async function settled(client: RawClient): Promise<void> {
  client.send({ cmd: 'pingreq' })
  await client.next('pingresp')
  client.packets.length = 0
}
const refused: Verdict = { kind: 'refused', code: 'rate_limited', message: 'no', waitMs: 5 }

describe('what the pipeline gets', () => {
  it('is the message as it was sent, with who sent it', async () => {
    const client = await connect('pump-1', 5)
    const before = Date.now() * 1000
    client.publish(1, '{"t":1}', { properties: { contentType: 'application/json', topicAlias: 3 } })
    client.publish(2, '{"t":2}', { topic: '', properties: { topicAlias: 3 } })
    await pushed(2)
    expect(pipeline.pushed.map(({ ingress }) => ingress)).toMatchObject([
      { source: 'mqtt', topic: 'devices/me/telemetry', contentType: 'application/json', fleetItem: false },
      { source: 'mqtt', topic: 'devices/me/telemetry', contentType: undefined, acknowledgesParked: false },
    ])
    expect(pipeline.payloads).toEqual(['{"t":1}', '{"t":2}'])
    const ingress = pipeline.pushed[0]?.ingress
    expect(ingress?.principal).toMatchObject({ tenant: 'default', device: 'pump-1' })
    expect(ingress?.device).toBeUndefined()
    expect(ingress?.ingestTimeUs).toBeGreaterThanOrEqual(before)
    expect(ingress?.ingestTimeUs).toBeLessThanOrEqual(Date.now() * 1000)
    expect(pipeline.pushed[0]?.lane).toBe(pipeline.pushed[1]?.lane)
  })

  it('never has a limit on a fleet credential’s hold', async () => {
    const client = await connect('gw-1')
    client.publish(1, 'x', { topic: 'zigbee2mqtt/lamp' })
    await pushed(1)
    expect(pipeline.pushed[0]?.holdUntilMs).toBe(Number.POSITIVE_INFINITY)
  })

  it('is whole however the bytes arrive', async () => {
    const seed = Date.now() % 1_000_000
    console.info(`cut stream: seed ${seed}`)
    const random = seeded(seed)
    pipeline.verdict = () => stored
    const client = await connect()
    const payloads = Array.from(
      { length: 60 },
      (_, n) => `${n}:${'x'.repeat(random(4) === 0 ? random(40_000) : random(50))}`,
    )
    const { generate } = await import('mqtt-packet')
    const stream = Buffer.concat(
      payloads.map((payload, n) =>
        generate({
          cmd: 'publish',
          topic: 'devices/me/t',
          payload,
          qos: 1,
          messageId: n + 1,
          dup: false,
          retain: false,
        }),
      ),
    )
    for (let at = 0; at < stream.length; ) {
      const size = 1 + random(9000)
      client.socket.write(stream.subarray(at, at + size))
      at += size
      if (random(10) === 0) await sleep(1)
    }
    expect((await client.answered(60)).map(([id]) => id)).toEqual(payloads.map((_, n) => n + 1))
    expect(pipeline.payloads).toEqual(payloads)
  })
})

describe('PUBACKs', () => {
  it('go in the order of arrival, whatever the order of verdicts, and as one piece for a group', async () => {
    const seed = Date.now() % 1_000_000
    console.info(`order: seed ${seed}`)
    const random = seeded(seed)
    const client = await connect()
    for (let n = 1; n <= 90; n++) client.publish(n, `${n}`, { qos: random(5) === 0 ? 2 : 1 })
    await pushed(90)
    const order = Array.from({ length: 90 }, (_, n) => n).sort(() => random(3) - 1)
    const settled = new Set<number>()
    for (const [at, index] of order.entries()) {
      pipeline.settle(index)
      settled.add(index)
      if (random(7) !== 0 || at >= 80) continue
      await sleep(5)
      let ready = 0
      while (settled.has(ready)) ready++
      expect(client.answers.length, `seed ${seed}, ${at + 1} settled`).toBeLessThanOrEqual(ready)
    }
    expect(await client.answered(90)).toEqual(Array.from({ length: 90 }, (_, n) => [n + 1, 0]))
  })

  it('of one group leave in one write', async () => {
    const client = await connect()
    for (let n = 1; n <= 50; n++) client.publish(n, `${n}`)
    await pushed(50)
    client.chunks.length = 0
    pipeline.settleAll()
    await client.answered(50)
    expect(client.chunks).toHaveLength(1)
  })

  it('wait for the first message, and PINGRESP does not', async () => {
    const client = await connect()
    client.publish(1, 'a')
    client.publish(2, 'b')
    await pushed(2)
    pipeline.settle(1)
    await settled(client)
    expect(client.answers).toEqual([])
    pipeline.settle(0)
    expect(await client.answered(2)).toEqual([
      [1, 0],
      [2, 0],
    ])
  })
})

describe('QoS 2', () => {
  it.each([4, 5] as const)('level %d: PUBREC when durable, one record until PUBREL, then PUBCOMP', async (version) => {
    const client = await connect('pump-1', version)
    client.publish(5, 'x', { qos: 2 })
    client.publish(5, 'x', { qos: 2, dup: true })
    await settled(client)
    expect(pipeline.pushed).toHaveLength(1)
    expect(client.answers).toEqual([])
    pipeline.settleAll()
    expect(await client.answered(2)).toEqual([
      [5, 0],
      [5, 0],
    ])
    client.publish(5, 'x', { qos: 2, dup: true })
    await client.answered(3)
    expect(pipeline.pushed).toHaveLength(1)
    client.send({ cmd: 'pubrel', messageId: 5 })
    expect(await client.next('pubcomp')).toMatchObject({ messageId: 5 })
    client.publish(5, 'x', { qos: 2 })
    await pushed(2)
    pipeline.settleAll()
    await client.answered(4)
    client.send({ cmd: 'pubrel', messageId: 77 })
    await expect.poll(() => client.packets.filter(({ cmd }) => cmd === 'pubcomp').length).toBe(2)
    expect(client.packets.at(-1)).toMatchObject(version === 5 ? { reasonCode: 0x92 } : { messageId: 77 })
  })

  it('after a clean start the same packet id is another message', async () => {
    for (let round = 1; round <= 2; round++) {
      const client = await connect('pump-1', 4, { clean: true })
      client.publish(5, 'x', { qos: 2 })
      await pushed(round)
      pipeline.settleAll()
      await client.answered(1)
      client.destroy()
      await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
    }
  })

  it('a re-send after a reconnect makes no second record, with a session that was kept', async () => {
    const options = { clean: false }
    const first = await connect('pump-1', 4, options)
    first.publish(5, 'x', { qos: 2 })
    await pushed(1)
    pipeline.settleAll()
    await first.answered(1)
    first.destroy()
    await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
    const second = await connect('pump-1', 4, options)
    second.publish(5, 'x', { qos: 2, dup: true })
    expect(await second.answered(1)).toEqual([[5, 0]])
    expect(pipeline.pushed).toHaveLength(1)
  })
})

describe('gateways/me/telemetry', () => {
  const topic = 'gateways/me/telemetry'

  it('is one message for each device, and one PUBACK when all are stored or parked', async () => {
    const client = await connect('gw-1', 5)
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'gateways/me/errors', qos: 0 }] })
    await client.next('suback')
    client.publish(7, '{"kid-1":[{"t":1}],"kid-2":[{"t":2},{"t":3}],"else":[1]}', { topic })
    await pushed(3)
    expect(
      pipeline.pushed.map(({ ingress }) => [ingress.device, ingress.payload.toString(), ingress.fleetItem]),
    ).toEqual([
      ['kid-1', '[{"t":1}]', true],
      ['kid-2', '[{"t":2},{"t":3}]', true],
      ['else', '[1]', true],
    ])
    expect(pipeline.pushed.every(({ ingress }) => ingress.acknowledgesParked)).toBe(true)
    pipeline.settle(2, { kind: 'parked', code: 'not_allowed', message: '', deadLetterId: '' })
    pipeline.settle(0)
    await sleep(20)
    expect(client.answers).toEqual([])
    pipeline.settle(1)
    expect(await client.answered(1)).toEqual([[7, 0]])
    const told = await client.next('publish')
    expect(told).toMatchObject({ topic: 'gateways/me/errors', qos: 0, retain: false })
    expect(JSON.parse(String('payload' in told && told.payload))).toEqual({
      code: 'not_allowed',
      pid: 7,
      device: 'else',
    })
  })

  it('is refused as a whole when one of them is', async () => {
    const client = await connect('gw-1', 5)
    client.publish(7, '{"kid-1":[1],"kid-2":[2]}', { topic })
    await pushed(2)
    pipeline.settle(0)
    pipeline.settle(1, refused)
    await client.closed()
    expect(client.answers).toEqual([])
  })

  it.each(['{}', '{"kid-1":{}}', '[1]', 'nonsense', ''])('%j is one message for the decoder', async (payload) => {
    const client = await connect('gw-1', 5)
    client.publish(7, payload, { topic })
    await pushed(1)
    expect(pipeline.pushed[0]?.ingress).toMatchObject({ device: undefined, fleetItem: false })
    expect(pipeline.payloads).toEqual([payload])
  })

  it('with more than 10,000 devices is parked', async () => {
    const client = await connect('gw-1', 5)
    client.publish(7, `{${Array.from({ length: 10_001 }, (_, n) => `"k${n}":[]`).join()}}`, { topic })
    await pushed(1)
    expect(pipeline.pushed[0]?.ingress).toMatchObject({ park: 'too_many_items', fleetItem: false })
  })
})

describe('a will', () => {
  const will = {
    topic: 'devices/me/telemetry',
    payload: Buffer.from('{"online":false}'),
    qos: 1 as const,
    retain: true,
  }

  it('goes down the path when the connection is lost, behind what is in hand', async () => {
    const client = await connect('pump-1', 4, { will })
    client.publish(1, 'x')
    await pushed(1)
    client.destroy()
    await pushed(2)
    expect(pipeline.payloads).toEqual(['x', '{"online":false}'])
    expect(pipeline.pushed[1]?.ingress).toMatchObject({ topic: 'devices/me/telemetry', acknowledgesParked: true })
    expect(pipeline.pushed[1]?.lane?.closed).toBe(false)
  })

  it('is forgotten at a DISCONNECT, but for reason code 0x04', async () => {
    for (const [version, reasonCode] of [
      [4, 0],
      [5, 0],
      [5, 4],
    ] as const) {
      const client = await connect('pump-1', version, { will })
      client.send({ cmd: 'disconnect', reasonCode })
      await client.closed()
    }
    await pushed(1)
  })
})

it('messages of a connection that says goodbye at once are taken: they are on their way', async () => {
  const client = await connect()
  client.publish(0, 'x', { qos: 0 })
  client.send({ cmd: 'disconnect' })
  await client.closed()
  await pushed(1)
  expect(pipeline.pushed[0]?.lane?.closed).toBe(false)
})

it('a lane with held messages is closed with its connection', async () => {
  const client = await connect()
  client.publish(1, 'x')
  await pushed(1)
  const lane = pipeline.pushed[0]?.lane
  if (lane === undefined) throw new Error('no lane')
  lane.blockedUntilMs = performance.now() + 5000
  client.destroy()
  await expect.poll(() => lane.closed).toBe(true)
})
