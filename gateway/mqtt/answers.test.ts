import { afterEach, describe, expect, it } from 'vitest'
import type { Config } from '#platform/config-schema.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import { ignored, stored, type Verdict } from '../verdict.ts'
import { RawClient } from './testing/raw-client.ts'
import { RecordingPipeline } from './testing/recording-pipeline.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource | undefined
afterEach(() => test?.[Symbol.asyncDispose]())

async function start(verdict: Verdict | undefined, mqtt: Partial<Config['mqtt']> = {}): Promise<TestSource> {
  test = await startTestSource(
    { holdMs: 600, ...mqtt },
    new RecordingPipeline(verdict === undefined ? 'hold' : () => verdict),
  )
  return test
}

const refused = (code: ReasonCode, more: { limit?: string; waitMs?: number } = {}): Verdict => ({
  kind: 'refused',
  code,
  message: `because of ${code}`,
  ...more,
})
const parked: Verdict = { kind: 'parked', code: 'malformed', message: 'no', deadLetterId: 'id' }
const versions = [4, 5] as const

describe('verdicts that have an answer', () => {
  it.each([
    ['stored', stored, 0, 0],
    ['ignored', ignored, 0, 0],
    ['parked', parked, 0, 0x99],
  ] as const)('%s', async (_what, verdict, on311, on5) => {
    const { port, pipeline } = await start(verdict)
    for (const version of versions)
      for (const qos of [1, 2] as const) {
        const client = await RawClient.connect(port, 'pump-1', version)
        client.publish(7, 'x', { qos })
        expect(await client.answered(1)).toEqual([[7, version === 5 ? on5 : on311]])
        expect(client.packets[0]?.cmd).toBe(qos === 1 ? 'puback' : 'pubrec')
        expect(pipeline.pushed.at(-1)?.ingress.acknowledgesParked).toBe(version === 4)
        client.destroy()
      }
  })

  it('not allowed, said by the payload: MQTT 5 hears 0x87', async () => {
    const { port } = await start(refused('not_allowed'))
    const client = await RawClient.connect(port, 'pump-1', 5)
    client.publish(1, 'x')
    client.publish(2, 'y', { qos: 2 })
    expect(await client.answered(2)).toEqual([
      [1, 0x87],
      [2, 0x87],
    ])
    client.destroy()
  })

  it('not allowed, said by the topic: MQTT 5 hears 0x87 in the order of its messages, and nothing is pushed', async () => {
    const { port, pipeline, refused: counted } = await start(undefined)
    const client = await RawClient.connect(port, 'pump-1', 5)
    client.publish(1, 'x')
    client.publish(2, 'x', { topic: 'devices/pump-2/telemetry' })
    client.publish(3, 'x')
    await expect.poll(() => pipeline.pushed.length).toBe(2)
    expect(client.answers).toEqual([])
    pipeline.settleAll()
    expect(await client.answered(3)).toEqual([
      [1, 0],
      [2, 0x87],
      [3, 0],
    ])
    expect(counted).toEqual(['not_allowed'])
    client.destroy()
  })

  it('over a limit with onLimit refuse: MQTT 5 hears 0x97 and stays, and is not held', async () => {
    const { port, pipeline } = await start(refused('rate_limited', { limit: 'device', waitMs: 50 }), {
      onLimit: 'refuse',
    })
    const client = await RawClient.connect(port, 'pump-1', 5)
    client.publish(1, 'x')
    expect(await client.answered(1)).toEqual([[1, 0x97]])
    expect(pipeline.pushed[0]?.holdUntilMs).toBe(0)
    client.destroy()
    const old = await RawClient.connect(port, 'pump-1', 4)
    old.publish(1, 'x')
    await old.closed()
    expect(pipeline.pushed[1]?.holdUntilMs).toBeGreaterThan(0)
    expect(old.packets).toEqual([])
  })
})

describe('verdicts that end the connection', () => {
  it.each([
    ['rate_limited', 0x96],
    ['shutting_down', 0x8b],
  ] as const)('%s: at once, without PUBACK', async (code, reasonCode) => {
    const { port } = await start(refused(code, { limit: 'device', waitMs: 50 }))
    for (const version of versions) {
      const client = await RawClient.connect(port, `${code}-${version}`, version)
      client.publish(1, 'x')
      await client.closed()
      expect(client.packets).toEqual(
        version === 5
          ? [
              expect.objectContaining({
                cmd: 'disconnect',
                reasonCode,
                properties: { reasonString: `because of ${code}` },
              }),
            ]
          : [],
      )
    }
  })

  it('its last words arrive, also when the client has sent much that nobody read', async () => {
    const { port, pipeline } = await start(undefined, { maxInHandMessages: 1 })
    for (let round = 0; round < 5; round++) {
      const client = await RawClient.connect(port, `talker-${round}`, 5)
      for (let n = 1; n <= 300; n++) client.publish(n, 'x'.repeat(4000))
      await expect.poll(() => pipeline.waiting.length).toBe(1)
      pipeline.settleAll(refused('rate_limited'))
      await client.closed()
      expect(client.packets).toEqual([expect.objectContaining({ cmd: 'disconnect', reasonCode: 0x96 })])
    }
  })

  it('no reason string when the client wants none, or only small packets', async () => {
    const { port } = await start(refused('rate_limited'))
    for (const properties of [{ requestProblemInformation: false }, { maximumPacketSize: 20 }]) {
      const client = await RawClient.connect(port, JSON.stringify(properties).slice(0, 20), 5, { properties })
      client.publish(1, 'x')
      await client.closed()
      expect(client.packets).toEqual([expect.objectContaining({ cmd: 'disconnect', reasonCode: 0x96 })])
      expect(client.packets[0]).not.toHaveProperty('properties')
    }
  })

  it.each([
    ['event_log_unavailable', 0x89, 'event_log_unavailable'],
    ['queue_full', 0x89, 'event_log_unavailable'],
    ['internal', 0x80, 'internal'],
  ] as const)('%s: not before the hold is over, so nobody reconnects in a circle', async (code, reasonCode, reason) => {
    const { port, count } = await start(refused(code))
    for (const version of versions) {
      const client = await RawClient.connect(port, 'pump-1', version)
      const sentMs = performance.now()
      client.publish(1, 'x')
      await client.closed()
      expect(performance.now() - sentMs).toBeGreaterThan(590)
      expect(client.packets).toEqual(version === 5 ? [expect.objectContaining({ cmd: 'disconnect', reasonCode })] : [])
    }
    expect(await count('fleetbridge_mqtt_closed_total', { reason })).toBe(2)
  })

  it('an event log that never answers: the same at the deadline, and half the keep alive bounds the hold', async () => {
    const { port, pipeline } = await start(undefined, { holdMs: 10_000 })
    for (const version of versions) {
      const client = await RawClient.connect(port, 'pump-1', version, { keepalive: 2 })
      const sentMs = performance.now()
      client.publish(1, 'x')
      await client.closed()
      expect(performance.now() - sentMs).toBeGreaterThan(990)
      expect(performance.now() - sentMs).toBeLessThan(2500)
      expect(client.packets).toEqual(version === 5 ? [expect.objectContaining({ reasonCode: 0x89 })] : [])
    }
    const [envelope] = pipeline.pushed
    expect((envelope?.holdUntilMs ?? 0) - (envelope?.ingress.arrivedAtMs ?? 0)).toBe(1000)
  })

  it('what was stored before the refused message is acknowledged, what came behind it is not', async () => {
    const { port, pipeline } = await start(undefined)
    const client = await RawClient.connect(port, 'pump-1', 5)
    for (let n = 1; n <= 4; n++) client.publish(n, `${n}`)
    await expect.poll(() => pipeline.pushed.length).toBe(4)
    pipeline.settle(0)
    pipeline.settle(2)
    pipeline.settle(3)
    pipeline.settle(1, refused('rate_limited'))
    await client.closed()
    expect(client.answers).toEqual([[1, 0]])
    expect(client.packets.at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: 0x96 })
  })
})

describe('not allowed on MQTT 3.1.1', () => {
  it('closes without PUBACK; the third time these bytes come they are parked and acknowledged', async () => {
    const { port, pipeline } = await start(stored)
    const attempt = async () => {
      const client = await RawClient.connect(port, 'pump-1', 4)
      client.publish(1, 'same', { topic: 'devices/pump-2/telemetry' })
      return client
    }
    for (let n = 0; n < 2; n++) {
      const client = await attempt()
      await client.closed()
      expect(client.packets).toEqual([])
    }
    expect(pipeline.pushed).toEqual([])
    const client = await attempt()
    expect(await client.answered(1)).toEqual([[1, 0]])
    expect(pipeline.pushed[0]?.ingress).toMatchObject({ park: 'not_allowed', acknowledgesParked: true })
    client.destroy()
  })

  it('a fleet body of a device is parked whole', async () => {
    const { port, pipeline } = await start(parked)
    for (let n = 0; n < 3; n++) {
      const client = await RawClient.connect(port, 'pump-1', 4)
      client.publish(1, '{"kid-1":[1],"kid-2":[2]}', { topic: 'gateways/me/telemetry' })
      if (n < 2) await client.closed()
      else expect(await client.answered(1)).toEqual([[1, 0]])
      client.destroy()
    }
    expect(pipeline.pushed.map(({ ingress }) => [ingress.park, ingress.fleetItem])).toEqual([['not_allowed', false]])
  })

  it('the same for what only the payload gives away', async () => {
    const { port, pipeline } = await start(undefined)
    pipeline.verdict = ({ ingress }) => (ingress.park === undefined ? refused('not_allowed') : parked)
    for (let n = 0; n < 2; n++) {
      const client = await RawClient.connect(port, 'pump-1', 4)
      client.publish(1, '{"device":"pump-2"}')
      await client.closed()
    }
    const client = await RawClient.connect(port, 'pump-1', 4)
    client.publish(1, '{"device":"pump-2"}', { dup: true })
    expect(await client.answered(1)).toEqual([[1, 0]])
    client.destroy()
  })

  it('after three within a minute the CONNACK waits', async () => {
    const { port } = await start(stored)
    for (let n = 0; n < 3; n++) {
      const client = await RawClient.connect(port, 'pump-1', 4)
      client.publish(1, `other ${n}`, { topic: 'devices/pump-2/telemetry' })
      await client.closed()
    }
    const startedMs = performance.now()
    const client = await RawClient.connect(port, 'pump-1', 4)
    expect(performance.now() - startedMs).toBeGreaterThan(900)
    client.destroy()
    const otherMs = performance.now()
    ;(await RawClient.connect(port, 'pump-3', 4)).destroy()
    expect(performance.now() - otherMs, 'another device is not delayed').toBeLessThan(900)
  })

  it('after a rate limit the CONNACK waits for the time that was named', async () => {
    const { port, pipeline } = await start(refused('rate_limited', { waitMs: 700 }))
    const client = await RawClient.connect(port, 'pump-1', 4)
    client.publish(1, 'x')
    await client.closed()
    pipeline.verdict = () => stored
    const startedMs = performance.now()
    ;(await RawClient.connect(port, 'pump-1', 4)).destroy()
    expect(performance.now() - startedMs).toBeGreaterThan(600)
  })
})

describe('QoS 0', () => {
  it('is never held, says nothing, and closes nothing', async () => {
    const { port, pipeline, count } = await start(refused('rate_limited'))
    for (const version of versions) {
      const client = await RawClient.connect(port, 'pump-1', version)
      client.publish(0, 'x', { qos: 0 })
      client.publish(0, 'x', { qos: 0, topic: 'devices/pump-2/telemetry' })
      client.send({ cmd: 'pingreq' })
      await client.next('pingresp')
      expect(client.packets).toHaveLength(1)
      expect(pipeline.pushed.at(-1)).toMatchObject({ holdUntilMs: 0 })
      expect(pipeline.pushed.at(-1)?.ingress.acknowledgesParked).toBe(true)
      client.destroy()
    }
    await expect.poll(() => count('fleetbridge_mqtt_qos0_dropped_total', { reason: 'rate_limited' })).toBe(2)
    expect(await count('fleetbridge_mqtt_qos0_dropped_total', { reason: 'not_allowed' })).toBe(2)
  })
})

describe('packets that break the protocol', () => {
  it.each([
    ['a packet that is too large', Buffer.from([0x32, 0x81, 0x80, 0x40]), 0x95],
    ['a length that is none', Buffer.from([0x32, 0x80, 0x80, 0x80, 0x80, 0x01]), 0x81],
    ['packet type 0', Buffer.from([0x00, 0]), 0x81],
    ['SUBSCRIBE with wrong flags', Buffer.from([0x80, 0]), 0x81],
    ['a PINGREQ with a body', Buffer.from([0xc0, 1, 0]), 0x81],
    ['QoS 3', Buffer.from([0x36, 5, 0, 1, 97, 0, 1]), 0x81],
    ['a topic with U+0000', Buffer.from([0x30, 4, 0, 1, 0, 0]), 0x81],
    ['a topic that is not UTF-8', Buffer.from([0x30, 4, 0, 1, 0xff, 0]), 0x81],
    ['a topic with a wildcard', Buffer.from([0x30, 4, 0, 1, 0x23, 0]), 0x90],
    ['an empty topic', Buffer.from([0x30, 3, 0, 0, 0]), 0x82],
    ['packet id 0', Buffer.from([0x32, 6, 0, 1, 97, 0, 0, 0]), 0x82],
    ['an unknown topic alias', Buffer.from([0x30, 6, 0, 0, 3, 0x23, 0, 5]), 0x82],
    ['a CONNACK', Buffer.from([0x20, 2, 0, 0]), 0x82],
    ['AUTH', Buffer.from([0xf0, 0]), 0x82],
    ['a SUBSCRIBE without a filter', Buffer.from([0x82, 3, 0, 1, 0]), 0x82],
    ['a SUBSCRIBE with packet id 0', Buffer.from([0x82, 7, 0, 0, 0, 0, 1, 97, 0]), 0x82],
    ['a PUBREL without a packet id', Buffer.from([0x62, 0]), 0x81],
  ])('%s', async (_what, bytes, code) => {
    const { port, pipeline } = await start(stored)
    for (const version of versions) {
      const client = await RawClient.connect(port, 'pump-1', version)
      client.socket.write(bytes)
      await client.closed()
      expect(client.packets).toEqual(
        version === 5 ? [expect.objectContaining({ cmd: 'disconnect', reasonCode: code })] : [],
      )
    }
    expect(pipeline.pushed).toEqual([])
  })

  it('a topic alias that is too high', async () => {
    const { port } = await start(stored)
    const client = await RawClient.connect(port, 'pump-1', 5)
    client.publish(0, 'x', { qos: 0, properties: { topicAlias: 33 } })
    await client.closed()
    expect(client.packets).toEqual([expect.objectContaining({ cmd: 'disconnect', reasonCode: 0x94 })])
  })
})
