import { setTimeout as sleep } from 'node:timers/promises'
import { generate, type Packet } from 'mqtt-packet'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { connectPacket, publishPacket, RawClient } from './testing/raw-client.ts'
import { seeded } from './testing/seeded.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
beforeAll(async () => {
  test = await startTestSource({ holdMs: 200, connectTimeoutMs: 500 })
})
afterAll(() => test[Symbol.asyncDispose]())

/** A legal session of one client, as bytes. */
function session(device: string, version: 4 | 5, random: (below: number) => number): Buffer[] {
  const will = { topic: 'devices/me/telemetry', payload: Buffer.from('gone'), qos: 0 as const, retain: false }
  const packets: Packet[] = [connectPacket(device, version, random(2) === 0 ? { will, clean: false } : {})]
  for (let n = 1; n <= 12; n++)
    packets.push(
      [
        publishPacket(n, 'x'.repeat(random(200)), {
          qos: random(3) as 0 | 1 | 2,
          ...(version === 5 && { properties: { contentType: 'a/b', topicAlias: 1 } }),
        }),
        publishPacket(n, '{"kid-1":[1],"kid-2":[]}', { topic: 'gateways/me/telemetry' }),
        {
          cmd: 'subscribe' as const,
          messageId: n,
          subscriptions: [
            { topic: 'devices/me/#', qos: 1 as const },
            { topic: '#', qos: 0 as const },
          ],
        },
        { cmd: 'unsubscribe' as const, messageId: n, unsubscriptions: ['devices/me/#'] },
        { cmd: 'pingreq' as const },
        { cmd: 'pubrel' as const, messageId: n },
        { cmd: 'puback' as const, messageId: n },
        { cmd: 'disconnect' as const },
      ][random(8)] as Packet,
    )
  return packets.map((packet) => generate(packet, { protocolVersion: version }))
}

it('garbage ends its own connection at most; everybody else is served', { timeout: 60_000 }, async () => {
  const seed = Date.now() % 1_000_000
  console.info(`fuzz: seed ${seed}`)
  const random = seeded(seed)
  const witness = await RawClient.connect(test.port, 'witness', 5, { keepalive: 0 })
  for (let round = 0; round < 40; round++) {
    const group = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const version = random(2) === 0 ? 4 : 5
        const client = await RawClient.open(test.port, version)
        client.socket.removeAllListeners('data')
        client.socket.resume()
        const bytes = Buffer.concat(session(random(3) === 0 ? 'gw-1' : `dev-${random(4)}`, version, random))
        const spare = random(2) === 0 ? 60 : 0 // half of the time the CONNECT stays whole
        for (let flips = random(6); flips > 0; flips--) {
          const at = Math.min(bytes.length - 1, spare + random(bytes.length - spare))
          bytes[at] = random(256)
        }
        for (let at = 0; at < bytes.length; ) {
          const size = 1 + random(80)
          client.socket.write(bytes.subarray(at, at + size))
          at += size
        }
        return client
      }),
    )
    await sleep(10)
    for (const client of group) {
      if (random(2) === 0) client.destroy()
      else client.socket.end()
    }
    witness.publish(round + 1, `round ${round}`)
    await witness.answered(round + 1)
  }
  expect(
    witness.answers.map(([id]) => id),
    `seed ${seed}`,
  ).toEqual(Array.from({ length: 40 }, (_, n) => n + 1))
  await expect.poll(() => test.count('fleetbridge_mqtt_connections'), { timeout: 10_000 }).toBe(1)
  expect(await test.count('fleetbridge_mqtt_closed_total', { reason: 'internal' }), `seed ${seed}`).toBe(0)
  witness.destroy()
})
