import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Verdict } from '../verdict.ts'
import { RawClient } from './testing/raw-client.ts'
import { RecordingPipeline } from './testing/recording-pipeline.ts'
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

describe('a DUP', () => {
  const joined = () => test.count('fleetbridge_mqtt_dup_joined_total')

  it('of a message in hand shares its answer, and each copy gets its PUBACK', async () => {
    const client = await connect()
    client.publish(1, 'x')
    for (let n = 0; n < 3; n++) client.publish(1, 'x', { dup: true })
    await settled(client)
    expect(pipeline.pushed).toHaveLength(1)
    expect(await joined()).toBe(3)
    pipeline.settleAll()
    expect(await client.answered(4)).toEqual([1, 1, 1, 1].map((id) => [id, 0]))
  })

  it('of a message that was answered on this connection shares that answer', async () => {
    const client = await connect('pump-1', 5)
    client.publish(1, 'x')
    await pushed(1)
    pipeline.settleAll({ kind: 'parked', code: 'malformed', message: '', deadLetterId: '' })
    await client.answered(1)
    client.publish(1, 'x', { dup: true })
    expect(await client.answered(2)).toEqual([
      [1, 0x99],
      [1, 0x99],
    ])
    expect(pipeline.pushed).toHaveLength(1)
  })

  it('with another payload, topic or packet id, or without the flag, is a message of its own', async () => {
    const client = await connect()
    client.publish(1, 'x')
    client.publish(1, 'y', { dup: true })
    client.publish(2, 'x', { dup: true })
    client.publish(1, 'x', { dup: true, topic: 'devices/pump-1/telemetry' })
    client.publish(1, 'x')
    await pushed(5)
    expect(await joined()).toBe(0)
    pipeline.settleAll()
    await client.answered(5)
  })

  it('on a new connection joins what the old one left in hand', async () => {
    const first = await connect()
    first.publish(1, 'x')
    first.publish(2, 'y')
    await pushed(2)
    first.destroy()
    await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
    const second = await connect()
    second.publish(1, 'x', { dup: true })
    second.publish(2, 'y', { dup: true })
    second.publish(3, 'z')
    await pushed(3)
    expect(second.answers).toEqual([])
    pipeline.settleAll()
    expect(await second.answered(3)).toEqual([
      [1, 0],
      [2, 0],
      [3, 0],
    ])
    expect(pipeline.payloads).toEqual(['x', 'y', 'z'])
  })

  it('of another device or another client id joins nothing', async () => {
    const first = await connect('pump-1')
    first.publish(1, 'x')
    await pushed(1)
    const other = await connect('pump-2', 4, { clientId: 'pump-1' })
    const sibling = await connect('pump-1', 4, { clientId: 'another' })
    other.publish(1, 'x', { dup: true })
    sibling.publish(1, 'x', { dup: true })
    await pushed(3)
  })

  it('finds what was stored for a connection that was gone by then', async () => {
    const first = await connect()
    first.publish(1, 'x')
    await pushed(1)
    first.destroy()
    await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
    pipeline.settleAll()
    const second = await connect()
    second.publish(1, 'x', { dup: true })
    expect(await second.answered(1)).toEqual([[1, 0]])
    expect(pipeline.pushed).toHaveLength(1)
  })

  it('of an answer that the old connection did get is a message of its own: packet ids begin anew', async () => {
    const first = await connect()
    first.publish(1, 'x')
    await pushed(1)
    pipeline.settleAll()
    await first.answered(1)
    first.destroy()
    await first.closed()
    const second = await connect()
    second.publish(1, 'x', { dup: true })
    await pushed(2)
  })

  it('whose first copy is refused with its old connection goes down the path itself', async () => {
    const first = await connect()
    first.publish(1, 'x')
    await pushed(1)
    first.destroy()
    await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
    const second = await connect()
    second.publish(1, 'x', { dup: true })
    await settled(second)
    pipeline.settle(0, refused)
    await pushed(2)
    expect(pipeline.payloads).toEqual(['x', 'x'])
    pipeline.settleAll()
    expect(await second.answered(1)).toEqual([[1, 0]])
  })

  it('takes its copies to the grave: many connections that come and go hold nothing more', async () => {
    await test[Symbol.asyncDispose]()
    pipeline = new RecordingPipeline('hold')
    test = await startTestSource({ maxInHandMessages: 3 }, pipeline)
    const first = await connect()
    first.publish(1, 'x')
    await pushed(1)
    first.destroy()
    for (let n = 0; n < 5; n++) {
      const again = await connect()
      again.publish(1, 'x', { dup: true })
      await settled(again)
      again.destroy()
      await again.closed()
    }
    await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
    const last = await connect()
    last.publish(1, 'x', { dup: true })
    last.publish(2, 'y')
    await pushed(2)
    pipeline.settleAll()
    expect(await last.answered(2)).toEqual([
      [1, 0],
      [2, 0],
    ])
  })
})
