import { fork } from 'node:child_process'
import { createConnection, createServer, type Socket } from 'node:net'
import { Value } from 'typebox/value'
import type { Authenticator } from '#gateway/auth/authenticator.ts'
import type { Envelope } from '#gateway/envelope.ts'
import { startMqttSource } from '#gateway/mqtt/mqtt-source.ts'
import { stored } from '#gateway/verdict.ts'
import { Config } from '#platform/config-schema.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'

/**
 * What the MQTT front costs a message, above a bare socket that only answers: `node bench/front.bench.ts [seconds] [in flight]`.
 * 100 clients over real sockets in a process of their own, QoS 1, 120 bytes; the pipeline behind settles everything at once, in groups, as
 * the event log does. The figures are CPU microseconds of the server's process.
 */
const clients = 100
const payload =
  '{"ts":1790000000000,"values":{"temperature":21.5,"humidity":40.25,"pressure":1013.2,"battery":98,"sequence":123456}}'
const [mode, ...rest] = process.argv.slice(2)

if (mode === 'serve') await serve(rest[0] ?? 'front')
else if (mode === 'load') load(Number(rest[0]), Number(rest[1]), Number(rest[2]))
else await measure(Number(mode ?? 5), Number(rest[0] ?? 1))

interface Usage {
  readonly messages: number
  readonly userUs: number
  readonly systemUs: number
}

async function measure(seconds: number, inFlight: number): Promise<void> {
  console.log(`${clients} clients, ${inFlight} in flight, QoS 1, ${payload.length} bytes, ${seconds} s each`)
  const results = new Map<string, { rate: number; user: number; system: number }>()
  for (const kind of ['bare', 'front']) {
    const { messages, userUs, systemUs } = await run(kind, seconds, inFlight)
    const figures = { rate: messages / seconds, user: userUs / messages, system: systemUs / messages }
    results.set(kind, figures)
    console.log(
      `${kind.padEnd(6)} ${Math.round(figures.rate)} msg/s, CPU a message: ${figures.user.toFixed(1)} µs user, ${figures.system.toFixed(1)} µs system`,
    )
  }
  const above = (results.get('front')?.user ?? 0) - (results.get('bare')?.user ?? 0)
  console.log(`the front costs ${above.toFixed(1)} µs of user time a message above the bare socket`)
}

async function run(kind: string, seconds: number, inFlight: number): Promise<Usage> {
  const file = import.meta.filename
  const server = fork(file, ['serve', kind])
  const port = await new Promise<number>((resolve) => server.once('message', (message) => resolve(message as number)))
  const loader = fork(file, ['load', String(port), String(seconds), String(inFlight)])
  const started = await new Promise<void>((resolve) => loader.once('message', () => resolve())).then(() => ask(server))
  const messages = await new Promise<number>((resolve) => loader.once('message', (count) => resolve(count as number)))
  const ended = await ask(server)
  server.kill()
  return { messages, userUs: ended.user - started.user, systemUs: ended.system - started.system }
}

function ask(server: ReturnType<typeof fork>): Promise<NodeJS.CpuUsage> {
  server.send('usage')
  return new Promise((resolve) => server.once('message', (usage) => resolve(usage as NodeJS.CpuUsage)))
}

async function serve(kind: string): Promise<void> {
  process.on('message', () => process.send?.(process.cpuUsage()))
  process.on('disconnect', () => process.exit())
  process.send?.(kind === 'front' ? await front() : await bare())
}

/** Reads chunks as they come and answers as many PUBACKs as there are messages in them, without looking further. */
function bare(): Promise<number> {
  const answer = (socket: Socket) => {
    let isOpen = false
    socket.on('data', (chunk: Buffer) => {
      if (!isOpen) socket.write(Buffer.from([0x20, 2, 0, 0]))
      else {
        const count = Math.round(chunk.length / publish(1).length)
        const bytes = Buffer.alloc(count * 4)
        for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32BE(0x40020001, at)
        socket.write(bytes)
      }
      isOpen = true
    })
    socket.on('error', () => {})
  }
  return new Promise((resolve) => {
    const server = createServer({ noDelay: true }, answer).listen(0, '127.0.0.1', () =>
      resolve((server.address() as { port: number }).port),
    )
  })
}

async function front(): Promise<number> {
  let waiting: Envelope[] = []
  const settle = () => {
    const group = waiting
    waiting = []
    for (const envelope of group) envelope.settle(stored)
  }
  const authenticator: Authenticator = {
    authenticate: ({ secret: token = '' }) => ({
      tenant: 'default',
      device: token,
      fleet: false,
      credentialId: token,
      operator: false,
      expiresAtMs: Number.POSITIVE_INFINITY,
      allows: () => false,
    }),
    isLive: () => true,
    onChange: () => () => {},
    admitDevice: () => 'admitted',
  }
  const { port } = await startMqttSource(
    { ...(Value.Default(Config.properties.mqtt, {}) as Config['mqtt']), port: 0, host: '127.0.0.1' },
    {
      pipeline: {
        push(envelope) {
          if (waiting.push(envelope) === 1) setImmediate(settle)
        },
      },
      authenticator,
      log: silentLog,
      metrics: createMetrics('bench'),
    },
  )
  return port
}

function load(port: number, seconds: number, inFlight: number): void {
  let acknowledged = 0
  let open = 0
  const sockets: Socket[] = []
  const packet = publish(1)
  const start = () => {
    process.send?.('ready')
    const burst = Buffer.concat(Array.from({ length: inFlight }, () => packet))
    for (const socket of sockets) socket.write(burst)
    setTimeout(() => {
      process.send?.(acknowledged)
      process.exit()
    }, seconds * 1000)
  }
  for (let n = 0; n < clients; n++) {
    const socket = createConnection({ port, host: '127.0.0.1', noDelay: true }, () =>
      socket.write(connect(`device-${n}`)),
    )
    let isOpen = false
    socket.on('data', (chunk: Buffer) => {
      if (!isOpen) {
        isOpen = true
        if (++open === clients) setTimeout(start, 200)
        return
      }
      const count = chunk.length / 4
      acknowledged += count
      socket.write(count === 1 ? packet : Buffer.concat(Array.from({ length: count }, () => packet)))
    })
    sockets.push(socket)
  }
}

function connect(device: string): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([0, value.length]), Buffer.from(value)])
  const body = Buffer.concat([text('MQTT'), Buffer.from([4, 0xc2, 0, 60]), text(device), text(device), text(device)])
  return Buffer.concat([Buffer.from([0x10, body.length]), body])
}

function publish(packetId: number): Buffer {
  const topic = Buffer.from('devices/me/telemetry')
  const body = Buffer.concat([Buffer.from([0, topic.length]), topic, Buffer.from([0, packetId]), Buffer.from(payload)])
  return Buffer.concat([Buffer.from([0x32, (body.length & 0x7f) | 0x80, body.length >> 7]), body])
}
