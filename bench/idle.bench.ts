import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { generate } from 'mqtt-packet'
import { startKafka } from '#test/servers/kafka.ts'
import { startFleetbridge } from './fleetbridge.ts'

const usage = `node bench/idle.bench.ts [--connections 500,2000]
What connections that send nothing cost a gateway: its memory before the first one and with each number.`

const { values: flags } = parseArgs({
  options: { connections: { type: 'string', default: '500,2000' }, help: { type: 'boolean', default: false } },
})
if (flags.help) {
  console.info(usage)
  process.exit(0)
}
const counts = flags.connections.split(',').map(Number)
const settleMs = 15_000

await using opened = new AsyncDisposableStack()
const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-idle-'))
opened.defer(() => rmSync(dir, { recursive: true, force: true }))
const kafka = opened.use(await startKafka())
const devices = Math.max(...counts)
const bridge = opened.use(await startFleetbridge(kafka, dir, { devices, partitions: 12, redis: false }))
const logins = readFileSync(bridge.csv, 'utf8').trim().split('\n')
const sockets: Socket[] = []
opened.defer(() => {
  for (const socket of sockets) socket.destroy()
})

console.info('connections | resident MB | private MB')
await report()
for (const count of counts) {
  while (sockets.length < count) await Promise.all(Array.from({ length: Math.min(50, count - sockets.length) }, login))
  await report()
}

async function login(): Promise<void> {
  const [device, token] = (logins[sockets.length] as string).split(',') as [string, string]
  const socket = connect(bridge.mqttPort, '127.0.0.1')
  sockets.push(socket)
  socket.on('error', () => undefined)
  const connack = new Promise<void>((resolve, reject) => {
    socket.once('data', () => resolve())
    socket.once('close', () => reject(new Error(`${device} was not let in`)))
  })
  socket.write(
    generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: true,
      clientId: device,
      keepalive: 600,
      username: device,
      password: Buffer.from(token),
    }),
  )
  await connack
}

async function report(): Promise<void> {
  await sleep(settleMs)
  const status = readFileSync(`/proc/${bridge.pids.gateway}/status`, 'utf8')
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  console.info(
    `${String(sockets.length).padStart(11)} | ${(kib('VmRSS') / 1024).toFixed(0).padStart(11)} | ${(kib('RssAnon') / 1024).toFixed(0).padStart(10)}`,
  )
}
