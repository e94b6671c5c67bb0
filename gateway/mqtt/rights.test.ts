import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RawClient } from './testing/raw-client.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let closed: TestSource
let open: TestSource
beforeAll(async () => {
  closed = await startTestSource()
  open = await startTestSource({ open: true, openDeny: ['secret/#'] })
})
afterAll(async () => {
  await closed[Symbol.asyncDispose]()
  await open[Symbol.asyncDispose]()
})

const no = false
const yes = true

/** Who may subscribe to what, and publish what: a device, a fleet credential, an operator; and anybody in open mode. */
const table: [
  topic: string,
  action: 'sub' | 'pub',
  device: boolean,
  fleet: boolean,
  operator: boolean,
  anybody: boolean,
][] = [
  ['devices/me/telemetry', 'pub', yes, yes, no, yes],
  ['devices/kid-1/telemetry', 'pub', no, yes, no, yes],
  ['devices/me/errors', 'pub', no, no, no, no],
  ['devices/me/commands/x', 'pub', no, no, no, no],
  ['gateways/me/telemetry', 'pub', no, yes, no, yes],
  ['tele/plug/SENSOR', 'pub', no, yes, no, yes],
  ['__proto__', 'pub', no, yes, no, yes],
  ['constructor/__proto__', 'pub', no, yes, no, yes],
  ['$SYS/broker/uptime', 'pub', no, no, no, no],
  ['$share/g/x', 'pub', no, no, no, no],
  ['$own', 'pub', no, no, no, yes],
  ['secret/x', 'pub', no, yes, no, no],
  ['devices/me/#', 'sub', yes, yes, yes, yes],
  ['devices/me/errors', 'sub', yes, yes, yes, yes],
  ['gateways/me/errors', 'sub', no, yes, yes, yes],
  ['devices/other/errors', 'sub', no, no, yes, yes],
  ['devices/+/telemetry', 'sub', no, no, yes, yes],
  ['devices/__proto__/errors', 'sub', no, no, yes, yes],
  ['#', 'sub', no, no, yes, yes],
  ['+/+/#', 'sub', no, no, yes, yes],
  ['__proto__/constructor', 'sub', no, no, yes, yes],
  ['secret/x', 'sub', no, no, yes, no],
  ['secret/#', 'sub', no, no, yes, no],
  ['$SYS/broker/#', 'sub', no, no, yes, yes],
  ['$SYS/broker/uptime', 'sub', no, no, yes, yes],
  ['$SYS/#', 'sub', no, no, no, yes],
  ['$SYS', 'sub', no, no, no, yes],
  ['$own/#', 'sub', no, no, no, yes],
  ['spBv1.0/kid-g/NCMD/n', 'sub', no, yes, yes, yes],
  ['spBv1.0/kid-g/NCMD/n/#', 'sub', no, yes, yes, yes],
  ['spBv1.0/kid-g/DCMD/n/+', 'sub', no, yes, yes, yes],
  ['spBv1.0/other/NCMD/n', 'sub', no, no, yes, yes],
  ['spBv1.0/kid-g/NCMD/+', 'sub', no, no, yes, yes],
  ['spBv1.0/kid-g/NCMD/#', 'sub', no, no, yes, yes],
  ['spBv1.0/+/NCMD/n', 'sub', no, no, yes, yes],
  ['spBv1.0/kid-g/NDATA/n', 'sub', no, no, yes, yes],
  ['spBv1.0/kid-g/+/n', 'sub', no, no, yes, yes],
  ['$share/g/devices/me/errors', 'sub', no, no, no, no],
  ['$share/g/#', 'sub', no, no, no, no],
]

const roles = [
  ['a device', 'pump-1', 0],
  ['a fleet credential', 'gw-1', 1],
  ['an operator', 'op-1', 2],
  ['anybody in open mode', 'nobody', 3],
] as const

describe.each([4, 5] as const)('level %d', (version) => {
  it.each(roles)('%s', async (_, name, column) => {
    const { port } = column === 3 ? open : closed
    for (const [index, [topic, action, ...allowed]] of table.entries()) {
      const client = await RawClient.connect(port, name, version, {
        clientId: `${name}-${version}-${index}`, // one that is refused again and again would have to wait
        ...(column === 3 && { username: 'whoever', password: Buffer.from('whatever') }),
      })
      const where = `${action} ${topic}`
      if (action === 'sub') {
        client.send({ cmd: 'subscribe', messageId: 7, subscriptions: [{ topic, qos: 1 }] })
        const suback = await client.next('suback')
        const [code] = 'granted' in suback ? (suback.granted as number[]) : []
        expect(code === 1, where).toBe(allowed[column])
        client.send({ cmd: 'pingreq' })
        await client.next('pingresp') // whatever the answer, the connection stays
      } else {
        client.publish(7, `{"${topic}":1}`, { topic })
        if (allowed[column]) expect(await client.answered(1), where).toEqual([[7, 0]])
        else if (version === 5) expect(await client.answered(1), where).toEqual([[7, 0x87]])
        else {
          await client.closed()
          expect(client.answers, where).toEqual([])
        }
      }
      client.destroy()
    }
  })
})

it('a will passes the same check at CONNECT', async () => {
  const will = (topic: string) => ({ topic, payload: Buffer.from('1'), qos: 1 as const, retain: true })
  for (const [port, name, topic, allowed] of [
    [closed.port, 'pump-1', 'devices/me/telemetry', true],
    [closed.port, 'pump-1', 'devices/other/telemetry', false],
    [closed.port, 'op-1', 'devices/me/telemetry', false],
    [open.port, 'nobody', 'any/thing', true],
    [open.port, 'nobody', 'secret/x', false],
    [open.port, 'nobody', '$SYS/broker/version', false],
  ] as const) {
    const connected = RawClient.connect(port, name, 5, { will: will(topic), clientId: 'w' })
    if (allowed) (await connected).destroy()
    else await expect(connected, `${name} ${topic}`).rejects.toThrow('CONNACK 135')
  }
})

it('an operator that keeps publishing on 3.1.1 is closed each time, and nothing of it is parked', async () => {
  for (let n = 0; n < 3; n++) {
    const client = await RawClient.connect(closed.port, 'op-park', 4)
    client.publish(1, '{"a":1}')
    await client.closed()
    expect(client.answers).toEqual([])
  }
  expect(closed.pipeline.pushed.filter(({ ingress }) => ingress.principal.device === 'op-park')).toEqual([])
})
