import { randomInt } from 'node:crypto'
import type { IConnectPacket, IPublishPacket } from 'mqtt-packet'
import { expect } from 'vitest'
import type { Config } from '#platform/config-schema.ts'
import { type RedisServer, startRedis } from '#test/servers/redis.ts'
import { connectPacket, RawClient } from '../testing/raw-client.ts'
import { RecordingPipeline } from '../testing/recording-pipeline.ts'
import { startTestSource, type TestSource } from '../testing/source.ts'

/** A busy machine may not make a well Redis look away. */
const answerMs = 3000

/** Two gateways, or more, with one Redis; everybody may send everything, so that there is something to share. */
export class TestCluster implements AsyncDisposable {
  readonly redis: RedisServer
  readonly gateways: TestSource[] = []
  readonly clients: RawClient[] = []
  readonly #mqtt: Partial<Config['mqtt']>

  private constructor(redis: RedisServer, mqtt: Partial<Config['mqtt']>) {
    this.redis = redis
    this.#mqtt = mqtt
  }

  static async start(mqtt: Partial<Config['mqtt']> = {}): Promise<TestCluster> {
    const cluster = new TestCluster(await startRedis(), { open: true, ...mqtt })
    await cluster.addGateway()
    await cluster.addGateway()
    return cluster
  }

  async addGateway(more: { answerMs?: number } = {}): Promise<TestSource> {
    const redis = { url: this.redis.url, answerMs, ...more }
    const gateway = await startTestSource(this.#mqtt, new RecordingPipeline(), { redis })
    this.gateways.push(gateway)
    return gateway
  }

  gateway(index: number): TestSource {
    const gateway = this.gateways[index]
    if (gateway === undefined) throw new Error(`there is no gateway ${index}`)
    return gateway
  }

  async connect(index: number, device: string, version: 4 | 5 = 5, more: Partial<IConnectPacket> = {}) {
    const client = await RawClient.open(this.gateway(index).port, version)
    this.clients.push(client)
    client.send(connectPacket(device, version, more))
    const connack = await client.next('connack', 10_000)
    expect(connack).toMatchObject(version === 5 ? { reasonCode: 0 } : { returnCode: 0 })
    return { client, sessionPresent: 'sessionPresent' in connack && connack.sessionPresent === true }
  }

  /** Whether all gateways share, as their metrics say. */
  async shares(): Promise<boolean> {
    const local = await Promise.all(this.gateways.map((each) => each.count('fleetbridge_mqtt_cluster_local')))
    return local.every((value) => value === 0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) client.destroy()
    await Promise.all(this.gateways.map((gateway) => gateway[Symbol.asyncDispose]()))
    await this.redis.close()
  }
}

/** Sessions that outlive the connection. */
export const persistent = (clean = false): Partial<IConnectPacket> => ({
  clean,
  properties: { sessionExpiryInterval: 3600 },
})

export async function subscribe(client: RawClient, topic: string, qos: 0 | 1 | 2 = 1): Promise<void> {
  client.send({ cmd: 'subscribe', messageId: 999, subscriptions: [{ topic, qos }] })
  const suback = await client.next('suback')
  client.packets.splice(client.packets.indexOf(suback), 1)
}

export const received = (client: RawClient): IPublishPacket[] =>
  client.packets.filter((packet): packet is IPublishPacket => packet.cmd === 'publish')

export const texts = (client: RawClient): string[] => received(client).map(({ payload }) => payload.toString())

/** Sends with QoS 1, and waits until that is answered. */
export async function command(client: RawClient, topic: string, payload: string, more: Partial<IPublishPacket> = {}) {
  const messageId = 1 + randomInt(60_000)
  client.publish(messageId, payload, { topic, ...more })
  if (more.qos === 0) return
  const answers = client.answers.length
  await client.answered(answers + 1, 10_000)
}

/** Acknowledges everything that was sent to the client so far. */
export function acknowledge(client: RawClient): void {
  for (const { messageId, qos } of received(client))
    if (qos === 1 && messageId !== undefined) client.send({ cmd: 'puback', messageId })
}

export const say = (client: RawClient): Promise<void> => {
  client.send({ cmd: 'disconnect', ...(client.version === 5 && { reasonCode: 0 }) })
  return client.closed()
}
