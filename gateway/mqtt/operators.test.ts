import type { IPublishPacket } from 'mqtt-packet'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { stored, type Verdict } from '../verdict.ts'
import { RawClient } from './testing/raw-client.ts'
import { RecordingPipeline } from './testing/recording-pipeline.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
let pipeline: RecordingPipeline
const clients: RawClient[] = []

beforeEach(async () => {
  pipeline = new RecordingPipeline(() => stored)
  test = await startTestSource({}, pipeline)
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
})

async function connect(device: string, version: 4 | 5 = 5, more = {}): Promise<RawClient> {
  const client = await RawClient.connect(test.port, device, version, more)
  clients.push(client)
  return client
}

async function subscribe(client: RawClient, ...filters: string[]): Promise<void> {
  client.send({ cmd: 'subscribe', messageId: 9, subscriptions: filters.map((topic) => ({ topic, qos: 1 as const })) })
  await client.next('suback')
}

function seen(client: RawClient): string[] {
  return client.packets.flatMap((packet) => (packet.cmd === 'publish' ? [`${packet.topic} ${packet.payload}`] : []))
}

/** Published, answered, and whatever comes of it delivered. */
async function publish(client: RawClient, payload: string, topic = 'devices/me/telemetry'): Promise<void> {
  const before = client.answers.length
  client.publish(before + 1, payload, { topic })
  await client.answered(before + 1)
  await new Promise((resolve) => setTimeout(resolve, 20))
}

describe('telemetry, for those who have subscribed', () => {
  it('is seen by the operators of its tenant and by its own device, by every name that a device may use', async () => {
    const operator = await connect('op-1')
    const device = await connect('pump-1')
    await subscribe(operator, 'devices/+/telemetry')
    await subscribe(device, 'devices/me/telemetry')
    await publish(device, '1')
    await publish(device, '2', 'devices/pump-1/telemetry')
    await publish(device, '3', 'v1/devices/me/telemetry')
    await publish(await connect('pump-2', 4), '4')
    const own = ['1', '2', '3'].map((payload) => `devices/pump-1/telemetry ${payload}`)
    expect(seen(operator)).toEqual([...own, 'devices/pump-2/telemetry 4'])
    expect(seen(device)).toEqual(['1', '2', '3'].map((payload) => `devices/me/telemetry ${payload}`))
  })

  it('is not seen when it was not stored, nor after UNSUBSCRIBE', async () => {
    const operator = await connect('op-1')
    const device = await connect('pump-1')
    await subscribe(operator, '#')
    const parked: Verdict = { kind: 'parked', code: 'malformed', message: 'no', deadLetterId: '1' }
    pipeline.verdict = () => parked
    await publish(device, 'parked')
    pipeline.verdict = () => stored
    await publish(device, 'stored')
    expect(seen(operator).filter((line) => line.includes('telemetry'))).toEqual(['devices/pump-1/telemetry stored'])
    operator.send({ cmd: 'unsubscribe', messageId: 3, unsubscriptions: ['#'] })
    await operator.next('unsuback')
    operator.packets.length = 0
    await publish(device, 'later')
    expect(seen(operator)).toEqual([])
  })

  it("of a fleet body is each device's part, but for what was parked", async () => {
    const operator = await connect('op-1')
    const gateway = await connect('gw-1')
    await subscribe(operator, 'devices/+/telemetry')
    pipeline.verdict = ({ ingress }) =>
      ingress.device === 'kid-2' ? { kind: 'parked', code: 'malformed', message: 'no', deadLetterId: '1' } : stored
    await publish(gateway, '{"kid-1":[1],"kid-2":[2],"__proto__":[3]}', 'gateways/me/telemetry')
    expect(seen(operator)).toEqual(['devices/kid-1/telemetry [1]', 'devices/__proto__/telemetry [3]'])
  })

  it('of a device with a slash in its name is one level', async () => {
    const operator = await connect('op-1')
    await subscribe(operator, 'devices/+/telemetry')
    await publish(await connect('site/pump'), '1')
    expect(seen(operator)).toEqual(['devices/site%2Fpump/telemetry 1'])
  })
})

it("an operator hears every device's errors, ten of each in a second", async () => {
  const operator = await connect('op-1')
  await subscribe(operator, 'devices/+/errors')
  const [one, two] = [await connect('pump-1'), await connect('pump-2')]
  for (let n = 1; n <= 30; n++) one.publish(n, 'x', { topic: 'not/mine' })
  two.publish(1, 'x', { topic: 'not/mine' })
  await Promise.all([one.answered(30), two.answered(1)])
  await expect.poll(() => seen(operator).some((line) => line.startsWith('devices/pump-2/errors'))).toBe(true)
  const ofOne = seen(operator).filter((line) => line.startsWith('devices/pump-1/errors'))
  expect(ofOne.length).toBeGreaterThanOrEqual(10)
  expect(ofOne.length).toBeLessThanOrEqual(20) // a second may have begun meanwhile
})

describe('$SYS', () => {
  it("tells who subscribes at once, with mosquitto's names, and only of its own tenant", async () => {
    await connect('pump-1')
    await connect('pump-1@other')
    await connect('pump-2@other')
    const operator = await connect('op-1')
    await subscribe(operator, '$SYS/broker/#')
    await expect.poll(() => seen(operator).length).toBe(12)
    const values = new Map(seen(operator).map((line) => line.split(/ (?=[^ ]*$)/) as [string, string]))
    expect(values.get('$SYS/broker/clients/connected')).toBe('2')
    expect(values.get('$SYS/broker/subscriptions/count')).toBe('1')
    expect(Number(values.get('$SYS/broker/messages/received'))).toBe(1) // the SUBSCRIBE
    expect([...values.keys()].some((name) => name.startsWith('$SYS/broker/uptime'))).toBe(true)
    const first = operator.packets.find((packet): packet is IPublishPacket => packet.cmd === 'publish')
    expect(first).toMatchObject({ qos: 0, retain: true })
  })

  it('is not part of #', async () => {
    const operator = await connect('op-1', 4)
    await subscribe(operator, '#')
    await subscribe(operator, '+/broker/version')
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(seen(operator)).toEqual([])
  })
})

describe('delivery asks for rights again', () => {
  it('a session of an operator whose credential is none any more does not go on', async () => {
    const session = { clean: false, properties: { sessionExpiryInterval: 60 }, clientId: 'same' }
    // The authenticator knows operators by their name, so the device is the same and the role is not.
    let isOperator = true
    const asked = await connect('op-1', 5, session)
    const { principalOf } = test
    test.principalOf = (principal) => ({ ...(principalOf?.(principal) ?? principal), operator: isOperator })
    await subscribe(asked, '#')
    asked.destroy()
    await asked.closed()
    isOperator = false
    const back = await RawClient.open(test.port, 5)
    clients.push(back)
    back.send({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 5,
      keepalive: 60,
      username: 'op-1',
      password: Buffer.from('t-op-1'),
      ...session,
    })
    expect(await back.next('connack')).toMatchObject({ sessionPresent: false })
    await publish(await connect('pump-1'), '1')
    expect(seen(back)).toEqual([])
  })
})
