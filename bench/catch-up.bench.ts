import { createConnection, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { connectFrame, createPublishMaker, eachPacket, packetType } from '#simulator/mqtt-frames.ts'
import { freePort } from '#test/servers/free-port.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

const usage = `node bench/catch-up.bench.ts [--devices 500] [--others 500] [--messages 360] [--rate 2000] [--window 20] [--off]
  Devices that were away for six hours flush one message a minute, --window in flight each, while others publish once a second.
  Against "fleetbridge up" with Postgres (fsync on). --rate is BRIDGE_LIMITS_CATCH_UP_TENANT; --off leaves backlogs unlimited.`

const { values: flags } = parseArgs({
  options: {
    devices: { type: 'string', default: '500' },
    others: { type: 'string', default: '500' },
    messages: { type: 'string', default: '360' },
    rate: { type: 'string', default: '2000' },
    window: { type: 'string', default: '20' },
    off: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.info(usage)
  process.exit(0)
}
const rate = Number(flags.rate)
const inFlight = Number(flags.window)
const sixHoursMs = 6 * 3_600_000
const publish = createPublishMaker('devices/me/telemetry', 5)

/** Sends its messages in order, so many in flight, and sends again what was not acknowledged when it had to come back. */
class Device {
  readonly #name: string
  readonly #token: string
  readonly #onAck: (packetId: number) => void
  /** Bodies by packet id that wait for their PUBACK, oldest first. */
  readonly #open = new Map<number, string>()
  #socket: Socket | undefined
  #queue: string[] = []
  #packetId = 0
  isIn = false

  constructor(name: string, token: string, onAck: (packetId: number) => void) {
    this.#name = name
    this.#token = token
    this.#onAck = onAck
  }

  get unsent(): number {
    return this.#queue.length + this.#open.size
  }

  connect(): void {
    const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
    this.#socket = socket
    let rest: Buffer = Buffer.alloc(0)
    const [name, token] = [this.#name, this.#token]
    socket.on('connect', () =>
      socket.write(
        connectFrame({ protocolVersion: 5, clientId: name, username: name, password: token, keepAliveSeconds: 60 }),
      ),
    )
    socket.on('data', (chunk: Buffer) => {
      const data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      rest = data.subarray(eachPacket(data, data.length, (first, from) => this.#onPacket(first >> 4, data, from)))
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.isIn = false
      if (socket !== this.#socket) return
      closed++
      setTimeout(() => this.connect(), 1000 + Math.random() * 1000)
    })
  }

  leave(): void {
    const socket = this.#socket
    this.#socket = undefined
    socket?.destroy()
  }

  /** @returns its packet id, when it could leave at once */
  send(body: string): number {
    this.#queue.push(body)
    this.#fill()
    return this.#packetId
  }

  sendAll(bodies: string[]): void {
    this.#queue = bodies
    this.#fill()
  }

  #fill(): void {
    if (!this.isIn) return
    let frames = ''
    while (this.#open.size < inFlight && this.#queue.length > 0) {
      this.#packetId = (this.#packetId % 65_535) + 1
      const body = this.#queue.shift() as string
      this.#open.set(this.#packetId, body)
      frames += publish(body, this.#packetId, false)
    }
    if (frames !== '') this.#socket?.write(frames, 'latin1')
  }

  #onPacket(type: number, data: Buffer, from: number): void {
    if (type === packetType.connack) {
      this.isIn = data[from + 1] === 0
      let frames = ''
      for (const [packetId, body] of this.#open) frames += publish(body, packetId, true)
      if (frames !== '') this.#socket?.write(frames, 'latin1')
      this.#fill()
    } else if (type === packetType.puback) {
      const packetId = data.readUInt16BE(from)
      this.#open.delete(packetId)
      this.#onAck(packetId)
      this.#fill()
    }
  }
}

let closed = 0

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
  BRIDGE_LIMITS_CATCH_UP_TENANT: flags.off ? 'none' : `${rate}:1`,
  ...(flags.off && { BRIDGE_LIMITS_CATCH_UP_DEVICE: 'none', BRIDGE_LIMITS_CATCH_UP_FLEET: 'none' }),
}
await run(['init'], env)
const [deviceCount, otherCount] = [Number(flags.devices), Number(flags.others)]
const csv = await run(
  ['devices', 'add', '--count', String(deviceCount + otherCount), '--prefix', 'back-', '--csv'],
  env,
)
const tokens = csv
  .split('\n')
  .map((line) => line.split(',') as [string, string])
  .filter(([device]) => device.startsWith('back-'))
const bridge = opened.use(new BridgeProcess(['up'], env))
await bridge.until('fleetbridge is ready', async () => {
  const answer = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => undefined)
  return answer?.ok === true
})

let latencies: number[] = []
const live = tokens.slice(0, otherCount).map(([name, token]) => {
  const dueMs = new Map<number, number>()
  const device = new Device(name, token, (packetId) => {
    const due = dueMs.get(packetId)
    if (due !== undefined) latencies.push(performance.now() - due)
    dueMs.delete(packetId)
  })
  return { device, dueMs }
})
let acknowledged = 0
const returning = tokens.slice(otherCount).map(([name, token]) => new Device(name, token, () => acknowledged++))
for (const [index, device] of [...live.map((one) => one.device), ...returning].entries()) {
  device.connect()
  if (index % 10 === 9) await sleep(60) // the doors take so many a second from one address
}
await until(() => live.every(({ device }) => device.isIn) && returning.every(({ isIn }) => isIn), 60_000)

const startMs = performance.now()
let sent = 0
const publishing = setInterval(() => {
  // Each in its turn, so that their messages do not come in one piece.
  for (const due = ((performance.now() - startMs) * otherCount) / 1000; sent < due; sent++) {
    const { device, dueMs } = live[sent % otherCount] as (typeof live)[number]
    dueMs.set(device.send(`{"ts":${Date.now()},"values":{"t":21.5}}`), performance.now())
  }
}, 5)
opened.defer(() => {
  clearInterval(publishing)
  for (const { device } of live) device.leave()
  for (const device of returning) device.leave()
})

await sleep(5000)
latencies = []
await sleep(10_000)
report('live alone')

const perDevice = Number(flags.messages)
const total = perDevice * deviceCount
const foretold = (total - rate) / rate
closed = 0
const flushMs = performance.now()
for (const device of returning)
  device.sendAll(
    Array.from({ length: perDevice }, (_, index) => {
      const ts = Date.now() - sixHoursMs + Math.floor((index * (sixHoursMs - 660_000)) / perDevice)
      return `{"ts":${ts},"values":{"t":${index}}}`
    }),
  )
await until(() => returning.every(({ unsent }) => unsent === 0), 1_800_000)
const tookSeconds = (performance.now() - flushMs) / 1000
report('beside the backlog')
const told = flags.off ? 'no limit' : `foretold ${foretold.toFixed(1)} s`
console.info(
  `${total} messages of ${deviceCount} devices, ${acknowledged} acknowledged: ${told}, took ${tookSeconds.toFixed(1)} s (${(total / tookSeconds).toFixed(0)}/s); ${closed} connections closed meanwhile`,
)

function report(what: string): void {
  const sorted = latencies.sort((one, other) => one - other)
  const at = (part: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN).toFixed(1)
  console.info(`${what}: live answers p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)} ms (${sorted.length} messages)`)
  latencies = []
}

async function until(holds: () => boolean, ms: number): Promise<void> {
  const endMs = performance.now() + ms
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`not within ${ms} ms; output:\n${bridge.output}`)
    await sleep(20)
  }
}
