import { generate, type Packet } from 'mqtt-packet'
import { expect, it } from 'vitest'
import { RawClient } from './testing/raw-client.ts'
import { seeded } from './testing/seeded.ts'
import { startTestSource } from './testing/source.ts'

const topics = ['a', 'a/b', '__proto__', '/', '//', 'devices/x/y', '$x', '$SYS/broker/x', 'x/'.repeat(60), 'ü', ' ']
const filters = [...topics, '#', '+', '+/+', 'a/#', '$x/#', '$share/g/a', '$SYS/broker/#', 'x/'.repeat(60)]

it('whatever clients say in open mode, only their own connection may end, and never for a fault of ours', async () => {
  const seed = Date.now() % 1_000_000
  console.info(`open fuzz: seed ${seed}`)
  const random = seeded(seed)
  const pick = <Item>(items: readonly Item[]) => items[random(items.length)] as Item
  await using test = await startTestSource({ open: true, maxRetainedBytes: 500 })
  const bystander = await RawClient.connect(test.port, 'bystander', 5)
  bystander.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'by', qos: 1 }] })
  await bystander.next('suback')

  const properties = () => ({
    ...(random(3) === 0 && { userProperties: { ['__proto__']: 'x', constructor: ['1', '2'] } }),
    ...(random(4) === 0 && { messageExpiryInterval: random(3) }),
    ...(random(5) === 0 && { correlationData: Buffer.alloc(random(300), 1) }),
    ...(random(5) === 0 && { topicAlias: 1 + random(40) }),
    ...(random(6) === 0 && { responseTopic: 'r' }),
    ...(random(6) === 0 && { payloadFormatIndicator: true }),
  })
  const packet = (): Packet => {
    const messageId = 1 + random(20)
    const qos = random(3) as 0 | 1 | 2
    const kind = random(12)
    if (kind < 6)
      return {
        cmd: 'publish',
        topic: pick(topics),
        payload: 'x'.repeat(random(300)),
        qos,
        messageId,
        dup: qos > 0 && random(5) === 0,
        retain: random(3) === 0,
        properties: properties(),
      }
    if (kind < 8)
      return {
        cmd: 'subscribe',
        messageId,
        subscriptions: [{ topic: pick(filters), qos, nl: random(2) === 0, rap: random(2) === 0, rh: random(3) }],
        properties: random(2) === 0 ? { subscriptionIdentifier: 1 + random(300) } : {},
      }
    if (kind === 8) return { cmd: 'unsubscribe', messageId, unsubscriptions: [pick(filters)] }
    return {
      cmd: pick(['puback', 'pubrec', 'pubrel', 'pubcomp'] as const),
      messageId,
      reasonCode: pick([0, 0x10, 0x87]),
    } as Packet
  }

  for (let round = 0; round < 60; round++) {
    const version = random(3) === 0 ? 4 : 5
    const client = await RawClient.open(test.port, version)
    const will = {
      topic: pick(['w', 'devices/me/t', '__proto__']),
      payload: Buffer.from('w'),
      qos: random(3) as 0 | 1 | 2,
      retain: random(2) === 0,
      properties: { willDelayInterval: random(2) },
    }
    client.send({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: version,
      clientId: `c-${random(6)}`,
      clean: random(2) === 0,
      keepalive: random(100),
      ...(random(2) === 0 && { will }),
      ...(version === 5 && {
        properties: {
          sessionExpiryInterval: random(2) * 60,
          receiveMaximum: 1 + random(3),
          topicAliasMaximum: random(3),
          ...(random(3) === 0 && { maximumPacketSize: 20 + random(100) }),
        },
      }),
    })
    // Not for long: who took a client id over again and again is let in late, and what it sends meanwhile is part of the test.
    for (let tries = 0; tries < 50 && client.packets.length === 0 && !client.isClosed; tries++)
      await new Promise((resolve) => setTimeout(resolve, 2))
    for (let n = 0; n < 40; n++) {
      const bytes = generate(packet(), { protocolVersion: version })
      if (random(40) === 0) bytes[random(bytes.length)] = random(256)
      if (client.socket.writable) client.socket.write(bytes)
    }
    if (random(3) === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    client.destroy()
  }
  const before = bystander.packets.length
  for (let n = 1; n <= 10; n++) bystander.publish(n, String(n), { topic: 'by' })
  await bystander.answered(10)
  await expect
    .poll(() => bystander.packets.slice(before).filter(({ cmd }) => cmd === 'publish').length, {
      message: `seed ${seed}`,
    })
    .toBe(10)
  expect(await test.count('fleetbridge_mqtt_closed_total', { reason: 'internal' }), `seed ${seed}`).toBe(0)
})
