import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { Aedes } from 'aedes'
import fc from 'fast-check'
import { generate } from 'mqtt-packet'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createClock } from './clock.ts'
import { messageState } from './journal.ts'
import { createMqttFleet, type MqttFleetOptions } from './mqtt-fleet.ts'
import { createPublishMaker, eachPacket } from './mqtt-frames.ts'
import { Outbox } from './outbox.ts'
import { createPayloadMaker } from './payload.ts'
import { seededRandom } from './random.ts'

const open: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

interface Received {
  readonly client: string
  readonly topic: string
  readonly body: { ts: number; values: { seq: number } }
  readonly qos: number
}

/** A stock broker that notes what it gets; `hold` keeps PUBACKs back by not calling the hook's answer. */
async function startBroker() {
  const received: Received[] = []
  const sockets = new Set<Socket>()
  /** Numbers of the messages that came with DUP: the broker does not hand that flag on. */
  const dups: number[] = []
  const control = { hold: false, held: [] as (() => void)[] }
  const broker = await Aedes.createBroker({
    authenticate: (_client, username, password, answer) =>
      answer(null, password?.toString() === `token of ${username}`),
    authorizePublish: (client, packet, answer) => {
      received.push({
        client: client?.id ?? '',
        topic: packet.topic,
        body: JSON.parse(packet.payload.toString()) as Received['body'],
        qos: packet.qos,
      })
      if (control.hold) control.held.push(() => answer(null))
      else answer(null)
    },
  })
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('data', (data: Buffer) => {
      eachPacket(data, data.length, (first, from, to) => {
        if (first === 0x3a) dups.push(Number(/"seq":(\d+)/.exec(data.toString('latin1', from, to))?.[1]))
      })
    })
    broker.handle(socket)
  })
  const port = await listen(server)
  open.push(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
    await new Promise<void>((resolve) => broker.close(resolve))
  })
  const cut = () => {
    for (const socket of sockets) socket.destroy()
    sockets.clear()
  }
  return { port, received, dups, control, cut }
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

/** A TCP server that speaks as it is told. */
async function startPeer(onData: (socket: Socket, data: Buffer, connection: number) => void): Promise<number> {
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    const connection = ++connections
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (data) => onData(socket, data, connection))
  })
  open.push(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return listen(server)
}

function fleetOf(port: number, devices: number, more: Partial<MqttFleetOptions> = {}) {
  const outbox = new Outbox({ devices, payloads: createPayloadMaker(2, 1), clock: createClock() })
  const logins = Array.from({ length: devices }, (_, index) => ({ device: `d-${index}`, token: `token of d-${index}` }))
  const fleet = createMqttFleet({
    host: '127.0.0.1',
    port,
    protocolVersion: 4,
    qos: 1,
    logins,
    outbox,
    random: seededRandom(1),
    ...more,
  })
  open.push(() => fleet.close())
  let timeUs = Date.now() * 1000
  const send = (device: number, count = 1) => {
    for (let message = 0; message < count; message++) outbox.due(device, timeUs++)
    fleet.send(device)
  }
  return { outbox, fleet, send, journal: outbox.journal, tally: outbox.tally }
}

const numbersOf = (received: readonly Received[], client: string) =>
  received.filter((one) => one.client === client).map(({ body }) => body.values.seq)

describe.each([4, 5] as const)('against a stock broker, protocol version %i', (protocolVersion) => {
  it('signs in, publishes in order to devices/me/telemetry, and learns of every acknowledgement', async () => {
    const { port, received } = await startBroker()
    const { fleet, send, journal, tally } = fleetOf(port, 20, { protocolVersion })
    await fleet.start(5000)
    expect(fleet.connected()).toBe(20)
    for (let round = 0; round < 10; round++) for (let device = 0; device < 20; device++) send(device, 3)
    await vi.waitFor(() => expect(journal.totals().acknowledged).toBe(600))
    expect(fleet.inFlight()).toBe(0)
    expect(received).toHaveLength(600)
    expect(new Set(received.map(({ topic }) => topic))).toEqual(new Set(['devices/me/telemetry']))
    for (let device = 0; device < 20; device++)
      expect(numbersOf(received, `d-${device}`)).toEqual(Array.from({ length: 30 }, (_, index) => index + 1))
    for (const { client, body } of received)
      expect(body.ts).toBe(journal.timeOf(Number(client.slice(2)), body.values.seq))
    expect(tally.ackMs()?.max).toBeGreaterThan(0)
    expect(tally.connectionErrors.size).toBe(0)
  })

  it('sends QoS 0 without waiting for anything', async () => {
    const { port, received } = await startBroker()
    const { fleet, send, journal } = fleetOf(port, 1, { protocolVersion, qos: 0 })
    await fleet.start(5000)
    send(0, 50)
    await vi.waitFor(() => expect(received).toHaveLength(50))
    expect(journal.totals()).toEqual({ due: 50, sent: 50, acknowledged: 0, refused: 0 })
    expect(received.every(({ qos }) => qos === 0)).toBe(true)
  })

  it('sends what was not acknowledged again after a reconnect: DUP, same number, same time, and then the rest', async () => {
    const { port, received, dups, control, cut } = await startBroker()
    const { fleet, send, journal, tally } = fleetOf(port, 1, { protocolVersion })
    await fleet.start(5000)
    send(0, 5)
    await vi.waitFor(() => expect(journal.totals().acknowledged).toBe(5))
    control.hold = true
    send(0, 3)
    await vi.waitFor(() => expect(received).toHaveLength(8))
    cut()
    await vi.waitFor(() => expect(fleet.connected()).toBe(0), { interval: 1 })
    send(0, 2) // due while nobody is there
    control.hold = false
    await vi.waitFor(() => expect(journal.totals().acknowledged).toBe(10), { timeout: 5000 })
    expect(received.slice(8).map(({ body }) => body.values.seq)).toEqual([6, 7, 8, 9, 10])
    expect(dups).toEqual([6, 7, 8])
    expect(received.slice(8, 11).map(({ body }) => body.ts)).toEqual(received.slice(5, 8).map(({ body }) => body.ts))
    expect([tally.reconnects, tally.resent]).toEqual([1, 3])
    expect([...tally.connectionErrors.keys()]).toHaveLength(1)
  })

  it('keeps no more in flight than it may, and sends the rest as room comes', async () => {
    const { port, received, control } = await startBroker()
    const { fleet, send, journal } = fleetOf(port, 1, { protocolVersion, maxInFlight: 4 })
    await fleet.start(5000)
    control.hold = true
    send(0, 10)
    await vi.waitFor(() => expect(received).toHaveLength(4))
    expect(journal.totals().sent).toBe(4)
    control.hold = false
    for (const answer of control.held.splice(0)) answer()
    await vi.waitFor(() => expect(journal.totals().acknowledged).toBe(10))
  })

  it('says why nobody got in', async () => {
    const { port } = await startBroker()
    const { fleet, tally } = fleetOf(port, 1, {
      protocolVersion,
      logins: [{ device: 'd-0', token: 'wrong' }],
    })
    const code = protocolVersion === 5 ? /connack 0x8/ : /connack 0x0[45]/
    await expect(fleet.start(700)).rejects.toThrow(code)
    expect([...tally.connectionErrors.keys()].join()).toMatch(code)
  })
})

const connack = (version: 4 | 5, properties?: { receiveMaximum?: number; serverKeepAlive?: number }) =>
  generate(
    version === 5
      ? { cmd: 'connack', sessionPresent: false, reasonCode: 0, ...(properties && { properties }) }
      : { cmd: 'connack', sessionPresent: false, returnCode: 0 },
    { protocolVersion: version } as never,
  )

describe('against a peer that is no stock broker', () => {
  it('obeys Receive Maximum and counts refusals by reason code', async () => {
    let publishes = 0
    const port = await startPeer((socket, data) => {
      eachPacket(data, data.length, (first, from, to) => {
        if (first === 0x10) socket.write(connack(5, { receiveMaximum: 2 }))
        if (first !== 0x32) return
        publishes++
        const packetId = data.readUInt16BE(from + 2 + data.readUInt16BE(from))
        const code = packetId === 2 ? 0x99 : packetId === 3 ? 0x10 : undefined
        // Two bytes mean success, three carry a reason code, four an empty property list as well.
        const body = [packetId >> 8, packetId & 255, ...(code === undefined ? [] : [code, 0])]
        if (publishes > 2 || to > 0) setTimeout(() => socket.write(Buffer.from([0x40, body.length, ...body])), 20)
      })
    })
    const { fleet, send, journal, tally } = fleetOf(port, 1, { protocolVersion: 5 })
    await fleet.start(5000)
    send(0, 4)
    expect(fleet.inFlight()).toBe(2)
    await vi.waitFor(() => expect(journal.totals()).toEqual({ due: 4, sent: 4, acknowledged: 3, refused: 1 }))
    expect(journal.stateOf(0, 2)).toBe(messageState.refused)
    expect(Object.fromEntries(tally.refusals)).toEqual({ 'puback 0x99': 1 })
  })

  it('reads answers that come byte by byte, and several at once', async () => {
    const port = await startPeer((socket, data) => {
      const answers: Buffer[] = []
      eachPacket(data, data.length, (first, from) => {
        if (first === 0x10) answers.push(connack(4))
        else if (first === 0x32) {
          const at = from + 2 + data.readUInt16BE(from)
          answers.push(Buffer.from([0x40, 2, data[at] as number, data[at + 1] as number]))
        }
      })
      const all = Buffer.concat(answers)
      for (let at = 0; at < all.length; at++) setTimeout(() => socket.write(all.subarray(at, at + 1)), at * 2)
    })
    const { fleet, send, journal } = fleetOf(port, 1)
    await fleet.start(5000)
    send(0, 5)
    await vi.waitFor(() => expect(journal.totals().acknowledged).toBe(5))
  })

  it('names the reason of a DISCONNECT, and what is no MQTT', async () => {
    const port = await startPeer((socket, _data, connection) => {
      if (connection === 1) {
        socket.write(connack(5))
        socket.write(generate({ cmd: 'disconnect', reasonCode: 0x8b }, { protocolVersion: 5 } as never))
      } else if (connection === 2) socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'.padEnd(100))
      else if (connection === 3) socket.write(Buffer.from([0x20, 0xff, 0xff, 0xff, 0xff, 0xff]))
      else socket.write(connack(5))
    })
    const { fleet, tally } = fleetOf(port, 1, { protocolVersion: 5 })
    await fleet.start(5000)
    await vi.waitFor(() => expect([...tally.connectionErrors.keys()]).toEqual(['disconnect 0x8b', 'not MQTT']), {
      timeout: 12_000,
    })
    await vi.waitFor(() => expect(fleet.connected()).toBe(1), { timeout: 5000 })
    expect(tally.connectionErrors.get('not MQTT')).toBe(2)
  })

  it('closes in time though the peer reads nothing any more', async () => {
    const port = await startPeer((socket, data) => {
      if (data[0] === 0x10) socket.write(connack(4))
      else socket.pause()
    })
    const { fleet, outbox, send } = fleetOf(port, 1, { qos: 0 })
    await fleet.start(5000)
    // More than the kernel's buffers take, so that the goodbye is stuck behind it.
    await vi.waitFor(() => {
      const before = outbox.journal.totals().sent
      send(0, 20_000)
      expect(outbox.journal.totals().sent).toBe(before)
    })
    const sockets = () => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
    const before = sockets()
    await fleet.close()
    await vi.waitFor(() => expect(sockets(), 'ours is gone, the paused one of the peer is left').toBe(before - 1))
  })

  it('pings when it has nothing to say, and gives a silent peer up', async () => {
    let pings = 0
    const port = await startPeer((socket, data, connection) => {
      if (data[0] === 0x10) socket.write(connack(5, { serverKeepAlive: 2 }))
      if (data[0] !== 0xc0) return
      pings++
      if (connection === 1 && pings > 2) return // silent from now on
      socket.write(Buffer.from([0xd0, 0]))
    })
    const { fleet, tally } = fleetOf(port, 1, { protocolVersion: 5 })
    await fleet.start(5000)
    await vi.waitFor(() => expect(tally.connectionErrors.get('silent')).toBe(1), { timeout: 15_000 })
    await vi.waitFor(() => expect(tally.reconnects).toBe(1), { timeout: 5000 })
    expect(pings).toBeGreaterThan(2)
  })
})

describe('frames', () => {
  it.each([4, 5] as const)('are the bytes that mqtt-packet makes, protocol version %i', (protocolVersion) => {
    const make = createPublishMaker('devices/me/telemetry', protocolVersion)
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 20_000 }),
        fc.integer({ min: 0, max: 65_535 }),
        fc.boolean(),
        (size, messageId, dup) => {
          const body = 'x'.repeat(size)
          const qos = messageId === 0 ? 0 : 1
          const expected = generate(
            {
              cmd: 'publish',
              topic: 'devices/me/telemetry',
              payload: body,
              qos,
              retain: false,
              dup: qos === 1 && dup,
              ...(qos === 1 && { messageId }),
            },
            { protocolVersion } as never,
          )
          expect(Buffer.from(make(body, messageId, dup), 'latin1').equals(expected)).toBe(true)
        },
      ),
    )
    const large = make('x'.repeat(3_000_000), 1, false)
    expect(eachPacket(Buffer.from(large, 'latin1'), large.length, () => {})).toBe(large.length)
  })

  it('are found whole wherever the bytes are cut', () => {
    const bytes = Buffer.concat([
      Buffer.from([0x40, 2, 0, 1]),
      Buffer.from([0xd0, 0]),
      Buffer.from([0x20, 0x83, 0x01, ...new Array(131).fill(0)]),
    ])
    for (let cut = 0; cut <= bytes.length; cut++) {
      const found: number[] = []
      const next = eachPacket(bytes, cut, (first) => found.push(first))
      expect(next).toBeLessThanOrEqual(cut)
      const rest = bytes.subarray(next)
      expect(eachPacket(rest, rest.length, (first) => found.push(first))).toBe(rest.length)
      expect(found).toEqual([0x40, 0xd0, 0x20])
    }
  })
})
