import { createConnection, type Socket } from 'node:net'
import { parseArgs } from 'node:util'
import { Framer } from '#gateway/mqtt/frame.ts'
import { packetType } from '#gateway/mqtt/packet-types.ts'
import { freePort } from '#test/servers/free-port.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

/**
 * A fleet comes back at once while others publish: `node bench/reconnect.bench.ts [--devices 2000] [--others 200] [--seconds 10]`.
 * Against `fleetbridge up` with Postgres, all defaults: every device has a token, subscribes to its errors and publishes a message as soon as
 * it is back. The others publish twice a second, QoS 1; their answers are timed from when each message was due.
 */
const { values } = parseArgs({
  options: {
    devices: { type: 'string', default: '2000' },
    others: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '10' },
  },
})
const count = { devices: Number(values.devices), others: Number(values.others) }
const overMs = Number(values.seconds) * 1000
const publishEveryMs = 500
const stepMs = 10

/** One client that does as much as is needed here. */
class Device {
  readonly name: string
  readonly token: string
  isBack = false
  /** When it was told that it may come in. */
  backMs = 0
  readonly #port: number
  readonly #onAck: (device: Device) => void
  #socket: Socket | undefined
  #packetId = 0

  constructor(port: number, name: string, token: string, onAck: (device: Device) => void) {
    this.#port = port
    this.name = name
    this.token = token
    this.#onAck = onAck
  }

  /** Comes in again after a second and a bit, as clients do, when it is turned away. */
  connect(): void {
    const socket = createConnection({ port: this.#port, host: '127.0.0.1', noDelay: true })
    this.#socket = socket
    const framer = new Framer(
      {
        onFrame: (bytes, start) => {
          this.#onPacket((bytes[start] as number) >> 4)
          return true
        },
        onFrameFault() {},
      },
      65_536,
    )
    socket.on('connect', () => socket.write(connectPacket(this.name, this.token)))
    socket.on('data', (chunk: Buffer) => framer.push(chunk))
    socket.on('error', () => {})
    socket.on('close', () => {
      if (socket !== this.#socket) return
      turnedAway++
      setTimeout(() => this.connect(), 1000 + Math.random() * 1000)
    })
  }

  drop(): void {
    const socket = this.#socket
    this.#socket = undefined
    this.isBack = false
    socket?.destroy()
  }

  publish(): void {
    this.#packetId = (this.#packetId % 65_535) + 1
    const body = Buffer.concat([
      text('devices/me/telemetry'),
      Buffer.from([this.#packetId >> 8, this.#packetId & 0xff]),
      Buffer.from(`{"ts":${Date.now()},"values":{"temperature":21.5}}`),
    ])
    this.#socket?.write(packet(0x32, body))
  }

  #onPacket(type: number): void {
    if (type === packetType.connack) {
      this.#socket?.write(
        packet(0x82, Buffer.concat([Buffer.from([0, 1]), text('devices/me/errors'), Buffer.from([0])])),
      )
      this.publish()
    } else if (type === packetType.puback) {
      if (!this.isBack) this.backMs = performance.now()
      this.isBack = true
      this.#onAck(this)
    }
  }
}

let turnedAway = 0

await using opened = new AsyncDisposableStack()
const postgres = opened.use(await startPostgres({ durable: true }))
const port = await freePort()
const opsPort = await freePort()
const env = {
  DATABASE_URL: postgres.url,
  BRIDGE_MQTT_PORT: String(port),
  BRIDGE_OPS_PORT: String(opsPort),
  BRIDGE_HTTP_PORT: '0',
  BRIDGE_ADMIN_PORT: '0',
  BRIDGE_LOG_LEVEL: 'warn',
}
await run(['init'], env)
const tokens = (
  await run(['devices', 'add', '--count', String(count.devices + count.others), '--prefix', 'storm-', '--csv'], env)
)
  .split('\n')
  .map((line) => line.split(',') as [string, string])
  .filter(([device]) => device.startsWith('storm-'))
const bridge = opened.use(new BridgeProcess(['up'], env))
await bridge.until('fleetbridge is ready', async () => {
  const answer = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => undefined)
  return answer?.ok === true
})

const dueMs = new Map<Device, number>()
let latencies: number[] = []
const others = tokens.slice(0, count.others).map(([name, token]) => new Device(port, name, token, timed))
const fleet = tokens.slice(count.others).map(([name, token]) => new Device(port, name, token, () => {}))
for (const device of others) device.connect()
await until(() => others.every(({ isBack }) => isBack))
let turn = 0
// Each in its turn, so that their messages do not come in one piece.
const publishing = setInterval(() => {
  const [from, to] = [turn, turn + 1].map((at) => Math.floor((at * stepMs * count.others) / publishEveryMs))
  turn++
  for (let at = from as number; at < (to as number); at++) {
    const device = others[at % count.others] as Device
    if (dueMs.has(device)) continue // still waits: counted from when it was due
    dueMs.set(device, performance.now())
    device.publish()
  }
}, stepMs)
opened.defer(() => {
  clearInterval(publishing)
  for (const device of [...others, ...fleet]) device.drop()
})
await spread(fleet, 12_000)
await until(() => fleet.every(({ isBack }) => isBack))
await sleep(11_000) // the bucket of the address is full again

console.info(
  `${count.devices} devices come back, ${count.others} others publish every ${publishEveryMs} ms; ${(await memoryMb()).toFixed(0)} MB`,
)
await phase('nobody comes', async () => sleep(5000))
await phase(`over ${overMs / 1000} s`, () => comeBack(overMs))
await sleep(11_000)
await phase('all at once', () => comeBack(0))

async function comeBack(withinMs: number): Promise<string> {
  turnedAway = 0
  for (const device of fleet) device.drop()
  const startedMs = performance.now()
  await spread(fleet, withinMs)
  await until(() => fleet.every(({ isBack }) => isBack))
  const lastMs = Math.max(...fleet.map(({ backMs }) => backMs)) - startedMs
  return `, all back and acknowledged after ${(lastMs / 1000).toFixed(2)} s, ${turnedAway} times turned away first`
}

async function phase(what: string, run: () => Promise<string | undefined>): Promise<void> {
  latencies = []
  const cpuBefore = await metric('process_cpu_seconds_total')
  const more = (await run()) ?? ''
  const cpu = (await metric('process_cpu_seconds_total')) - cpuBefore
  const sorted = latencies.sort((a, b) => a - b)
  const at = (part: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN).toFixed(1)
  console.info(
    `${what}: others' answers p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)} ms (${sorted.length} messages)${more}; ${cpu.toFixed(2)} s of CPU, ${(await memoryMb()).toFixed(0)} MB`,
  )
}

function timed(device: Device): void {
  const due = dueMs.get(device)
  if (due === undefined) return
  dueMs.delete(device)
  latencies.push(performance.now() - due)
}

async function spread(devices: readonly Device[], withinMs: number): Promise<void> {
  const startedMs = performance.now()
  for (const [index, device] of devices.entries()) {
    const waitMs = startedMs + (index * withinMs) / devices.length - performance.now()
    if (waitMs > 1) await sleep(waitMs)
    device.connect()
  }
}

async function until(isSo: () => boolean): Promise<void> {
  const startedMs = performance.now()
  while (!isSo()) {
    if (performance.now() - startedMs > 60_000) throw new Error('not all came back within a minute')
    await sleep(5)
  }
}

async function sleep(ms: number): Promise<undefined> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}

async function memoryMb(): Promise<number> {
  return (await metric('process_resident_memory_bytes')) / 1e6
}

async function metric(name: string): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${opsPort}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)`, 'm').exec(metrics)?.[1])
}

function connectPacket(name: string, token: string): Buffer {
  return packet(0x10, Buffer.concat([text('MQTT'), Buffer.from([4, 0xc2, 0, 60]), text(name), text(name), text(token)]))
}

function packet(first: number, body: Buffer): Buffer {
  const size = body.length < 0x80 ? [body.length] : [(body.length & 0x7f) | 0x80, body.length >> 7]
  return Buffer.concat([Buffer.from([first, ...size]), body])
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes])
}
