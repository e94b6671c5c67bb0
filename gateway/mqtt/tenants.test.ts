import type { IPublishPacket } from 'mqtt-packet'
import { afterEach, describe, expect, it } from 'vitest'
import { RawClient } from './testing/raw-client.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

const clients: RawClient[] = []
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy()
})

/** Both tenants have the same device ids, client ids, operators and fleet credentials. */
async function connect({ port }: TestSource, name: string, tenant: string, more = {}): Promise<RawClient> {
  const client = await RawClient.connect(port, `${name}@${tenant}`, 5, { clientId: `${name}-id`, ...more })
  clients.push(client)
  return client
}

async function subscribe(client: RawClient, filters: readonly string[]): Promise<void> {
  client.send({ cmd: 'subscribe', messageId: 9, subscriptions: filters.map((topic) => ({ topic, qos: 1 as const })) })
  await client.next('suback')
}

const published = (client: RawClient) =>
  client.packets.filter((packet): packet is IPublishPacket => packet.cmd === 'publish')

const session = { clean: false, properties: { sessionExpiryInterval: 60 } }
const will = { topic: 'devices/me/telemetry', payload: Buffer.from('the will of one'), qos: 1 as const, retain: true }

/** All ways by which something of tenant one might be seen: each leaves its name in a payload or topic. */
const doors: Record<string, (test: TestSource) => Promise<void>> = {
  async telemetry(test) {
    const device = await connect(test, 'esp32', 'one')
    device.publish(1, 'of one', { topic: 'devices/me/telemetry', retain: true })
    device.publish(2, 'of one', { topic: 'devices/esp32/telemetry' })
    await device.answered(2)
  },
  async 'telemetry of a fleet'(test) {
    const fleet = await connect(test, 'gw-1', 'one')
    fleet.publish(1, '{"kid-1":["of one"]}', { topic: 'gateways/me/telemetry' })
    fleet.publish(2, 'of one', { topic: 'devices/kid-1/telemetry' })
    fleet.publish(3, 'of one', { topic: 'tele/x/SENSOR' })
    await fleet.answered(3)
  },
  async errors(test) {
    const device = await connect(test, 'esp32', 'one')
    device.publish(1, 'of one', { topic: 'devices/me/errors' })
    await device.answered(1)
  },
  async wills(test) {
    const device = await connect(test, 'esp32', 'one', { will })
    device.destroy()
    await device.closed()
    await expect.poll(() => test.pipeline.payloads).toContain('the will of one')
  },
  async 'general topics, retained'(test) {
    const device = await connect(test, 'esp32', 'one')
    device.publish(1, 'of one', { topic: 'a/b', retain: true })
    device.publish(2, 'of one', { topic: '$a/b', retain: true })
    await device.answered(2)
  },
}

const peepholes = [
  ...['#', '+/#', '+/+/+', 'devices/#', 'devices/+/telemetry', 'devices/esp32/#', 'devices/me/#', 'gateways/me/#'],
  ...['one/#', '/one/#', '../one/#', 'one/devices/esp32/#', '$SYS/broker/#', '$SYS/#', '$a/#', 'one$/#', '$one/#'],
  ...['$share/g/#', '$share/one/devices/#', 'a/#', 'tele/#'],
]

describe.each([
  ['closed', false],
  ['open', true],
])('two tenants of a gateway that is %s', (_, open) => {
  for (const [door, happens] of Object.entries(doors))
    it.each(['esp32', 'gw-1', 'op-1'])(`${door}: %s of the other tenant sees nothing`, async (name) => {
      await using test = await startTestSource({ open })
      const [early, witness] = [await connect(test, name, 'two', session), await connect(test, 'op-2', 'one')]
      await subscribe(early, peepholes)
      await subscribe(witness, ['#'])
      await happens(test)
      const late = await connect(test, name, 'two', { clientId: 'late' })
      await subscribe(late, peepholes)
      const back = await connect(test, name, 'two', session) // takes its own session over, from `early`
      await new Promise((resolve) => setTimeout(resolve, 50))
      for (const client of [early, late, back])
        expect(published(client).filter(({ topic }) => !topic.startsWith('$SYS/broker/'))).toEqual([])
      expect(published(witness), 'seen by an operator of its own').not.toEqual([])
    })

  it('the same client id is another client: both stay, and each has its own session', async () => {
    await using test = await startTestSource({ open })
    const [one, two] = [await connect(test, 'esp32', 'one', session), await connect(test, 'esp32', 'two', session)]
    await subscribe(one, ['devices/me/errors'])
    for (const [client, count] of [
      [one, 1],
      [two, 0],
    ] as const) {
      client.publish(1, 'x', { topic: 'devices/me/commands' })
      await client.answered(1)
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(published(client).length).toBe(count)
      expect(published(one).length).toBe(1)
    }
    expect([one.isClosed, two.isClosed]).toEqual([false, false])
  })
})

it.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'default', '%2F', 'a%2Fb'])(
  'a device that is called %s, as its client id and its filters, is one like any other',
  async (name) => {
    await using test = await startTestSource()
    const [own, other, operator] = [
      await connect(test, name, 'one', { clientId: name, ...session }),
      await connect(test, name, 'two', { clientId: name }),
      await connect(test, 'op-1', 'one'),
    ]
    await subscribe(own, [`devices/${name}/#`, `devices/me/${name}`])
    await subscribe(operator, ['devices/+/telemetry', `${name}/#`])
    own.publish(1, '1', { topic: `devices/${name}/telemetry` })
    own.publish(2, '2', { topic: `devices/me/${name}` })
    own.publish(3, '3', { topic: `devices/${name}/errors` })
    expect(await own.answered(3)).toEqual([
      [1, 0],
      [2, 0],
      [3, 0x87],
    ])
    await expect
      .poll(() =>
        published(own)
          .map(({ topic }) => topic)
          .sort(),
      )
      .toEqual([`devices/${name}/errors`, `devices/${name}/telemetry`, `devices/${name}/${name}`].sort())
    expect(published(operator).map(({ topic }) => topic)).toEqual([`devices/${name.replaceAll('%', '%25')}/telemetry`])
    expect(published(other)).toEqual([])
    own.destroy()
    const back = await connect(test, name, 'one', { clientId: name, ...session })
    back.publish(1, '1', { topic: `devices/${name}/telemetry` })
    await expect.poll(() => published(back).length).toBe(1)
  },
)
