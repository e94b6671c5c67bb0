import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { expect, inject, it, vi } from 'vitest'
import { addDevices } from '#cli/registry.ts'
import { freePort } from '#test/servers/free-port.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { BridgeProcess } from '#test/stack/process.ts'
import { publishRaw } from '#test/stack/raw-publish.ts'
import { Stack } from '#test/stack/stack.ts'

vi.setConfig({ testTimeout: 180_000 }) // processes are killed and started

/** The doors of one gateway. */
interface Doors {
  readonly mqttPort: number
  readonly httpPort: number
}

type Copy = 'first' | 'second' | 'third'

interface Case {
  readonly what: string
  /** Sends it once; the second and third copies come by other gateways, the third after all processes were killed. */
  send(at: Sender, copy: Copy): Promise<void>
  /** Rows that all copies leave, and messages among them that are duplicates. */
  readonly rows: number
  readonly duplicates: number
}

/** One device at the doors of one gateway. */
class Sender {
  readonly #doors: Doors
  readonly device: string
  readonly token: string

  constructor(doors: Doors, device: string, token: string) {
    this.#doors = doors
    this.device = device
    this.token = token
  }

  async mqtt(payload: string, messageId: number, dup = false): Promise<void> {
    const { device, token } = this
    await publishRaw(
      { port: this.#doors.mqttPort, device, token },
      { topic: 'devices/me/telemetry', payload, messageId, dup },
    )
  }

  async http(body: string, headers: Record<string, string> = {}, path = '/v1/telemetry'): Promise<void> {
    const answer = await fetch(`http://127.0.0.1:${this.#doors.httpPort}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json', ...headers },
      body,
    })
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  }
}

const number = { first: 1, second: 2, third: 3 } as const
const second = Math.floor(Date.now() / 1000)
const switched = (text: string, more = {}) => JSON.stringify({ ...more, values: { switch: text } })
const pattern = ['on', 'off', 'on']

const cases: readonly Case[] = [
  {
    what: 'an id, untimed, by MQTT',
    send: (at, copy) => at.mqtt(switched('on', { id: 'm-1' }), number[copy]),
    rows: 1,
    duplicates: 2,
  },
  {
    what: 'an id, untimed, by HTTP and by MQTT',
    send: (at, copy) => {
      const body = switched('on', { id: 'm-1' })
      return copy === 'second' ? at.mqtt(body, 7) : at.http(body)
    },
    rows: 1,
    duplicates: 2,
  },
  {
    what: 'an Idempotency-Key',
    send: (at) => at.http(switched('on'), { 'idempotency-key': '"r-1"' }),
    rows: 1,
    duplicates: 2,
  },
  {
    what: 'an Idempotency-Key of three messages',
    send: (at) => at.http(`[${pattern.map((text) => switched(text)).join()}]`, { 'idempotency-key': 'r-1' }),
    rows: 3,
    duplicates: 6,
  },
  {
    what: "an Idempotency-Key at ThingsBoard's door",
    send: (at) => at.http('{"switch":"on"}', { 'idempotency-key': 'r-1' }, `/api/v1/${at.token}/telemetry`),
    rows: 1,
    duplicates: 2,
  },
  {
    what: "an Idempotency-Key at InfluxDB's door, two lines",
    send: (at) => at.http('m switch="on"\nm switch="off"', { 'idempotency-key': 'r-1' }, '/write'),
    rows: 2,
    duplicates: 4,
  },
  {
    what: 'MQTT DUP, untimed',
    send: (at, copy) => at.mqtt(switched('on'), 41, copy !== 'first'),
    rows: 1,
    duplicates: 2,
  },
  {
    what: 'MQTT DUP, timed',
    send: (at, copy) => at.mqtt(switched('on', { ts: second }), 42, copy !== 'first'),
    rows: 1,
    duplicates: 2,
  },
  {
    what: 'a time and no id, by MQTT and HTTP',
    send: (at, copy) => {
      const body = switched('on', { ts: second })
      return copy === 'second' ? at.http(body) : at.mqtt(body, number[copy])
    },
    rows: 1,
    duplicates: 2,
  },
  {
    what: 'neither time nor name: each is a message',
    send: (at, copy) => (copy === 'second' ? at.http(switched('on')) : at.mqtt(switched('on'), number[copy])),
    rows: 3,
    duplicates: 0,
  },
  {
    what: 'on, off, on of one second with ids',
    async send(at) {
      for (const [index, text] of pattern.entries()) await at.http(switched(text, { ts: second, id: index }))
    },
    rows: 3,
    duplicates: 6,
  },
  {
    what: 'on, off, on of one second without ids: equal values of one instant are one',
    async send(at) {
      for (const text of pattern) await at.http(switched(text, { ts: second }))
    },
    rows: 2,
    duplicates: 7,
  },
  {
    what: 'on, off, on within a second, untimed, and then as re-sends',
    async send(at, copy) {
      for (const [index, text] of pattern.entries()) await at.mqtt(switched(text), 60 + index, copy !== 'first')
    },
    rows: 3,
    duplicates: 6,
  },
]

/** What a topology offers the matrix. */
interface Topology {
  readonly database: pg.Pool
  doors(copy: Copy): Doors
  killAll(): Promise<void>
}

async function runMatrix(topology: Topology): Promise<void> {
  const { database } = topology
  const devices = cases.map((_, index) => `dup-${index}`)
  const client = await database.connect()
  const tokens = new Map(
    (await addDevices(client as never, 'default', devices)).map(({ device, token }) => [device, token]),
  )
  client.release()
  await vi.waitFor(async () => {
    const last = devices.at(-1) as string
    await new Sender(topology.doors('first'), last, tokens.get(last) as string).http('{}')
    await new Sender(topology.doors('second'), last, tokens.get(last) as string).http('{}')
  }, 10_000)
  const sendAll = async (copy: Copy) => {
    for (const [index, { what, send }] of cases.entries()) {
      const device = devices[index] as string
      await send(new Sender(topology.doors(copy), device, tokens.get(device) as string), copy).catch((error: Error) => {
        throw new Error(`${what}, ${copy} copy: ${error.message}`)
      })
    }
  }
  await sendAll('first')
  await sendAll('second')
  await topology.killAll()
  await sendAll('third')
  const wanted = cases.map(({ what, rows }) => [what, rows])
  const sum = (read: (one: Case) => number) => cases.reduce((total, one) => total + read(one), 0)
  await vi.waitFor(
    async () => {
      const counts = await database.query('SELECT device, count(*)::int AS n FROM telemetry GROUP BY 1')
      const found = new Map(counts.rows.map(({ device, n }) => [device, n]))
      expect(cases.map(({ what }, index) => [what, found.get(devices[index] as string) ?? 0])).toEqual(wanted)
      const health = await database.query(
        'SELECT sum(stored)::int AS stored, sum(duplicate)::int AS duplicate, sum(parked)::int AS parked FROM ingest_health',
      )
      expect(health.rows[0]).toEqual({
        stored: sum(({ rows }) => rows),
        duplicate: sum((one) => one.duplicates),
        parked: 0,
      })
    },
    { timeout: 30_000, interval: 100 },
  )
}

it('with Kafka, over two gateways, gateway and worker killed in between: one row each, and the counters', async () => {
  await using stack = await Stack.start({ kafkaBrokers: inject('kafkaBrokers') })
  const other = { mqttPort: await freePort(), httpPort: await freePort() }
  const ops = await freePort()
  const startOther = async () => {
    const gateway = new BridgeProcess(['gateway'], {
      ...stack.env,
      BRIDGE_MQTT_PORT: String(other.mqttPort),
      BRIDGE_HTTP_PORT: String(other.httpPort),
      BRIDGE_OPS_PORT: String(ops),
    })
    await gateway.until(
      'it serves',
      async () => (await fetch(`http://127.0.0.1:${ops}/readyz`).catch(() => undefined))?.ok === true,
    )
    return gateway
  }
  await using second = await startOther()
  await runMatrix({
    database: stack.database,
    doors: (copy) => (copy === 'second' ? other : stack),
    async killAll() {
      await Promise.all([stack.worker.stop('SIGKILL'), stack.gateway.stop('SIGKILL'), second.stop('SIGKILL')])
      await Promise.all([stack.startGateway(), stack.startWorker()])
    },
  })
})

it('embedded, killed in between: one row each, and the counters', async () => {
  await using database = await migratedDatabase()
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetbridge-duplicates-'))
  const env = {
    DATABASE_URL: database.url,
    BRIDGE_DATA_DIR: dataDir,
    BRIDGE_MQTT_PORT: String(await freePort()),
    BRIDGE_HTTP_PORT: String(await freePort()),
    BRIDGE_OPS_PORT: '0',
  }
  const doors = { mqttPort: Number(env.BRIDGE_MQTT_PORT), httpPort: Number(env.BRIDGE_HTTP_PORT) }
  const start = async () => {
    const up = new BridgeProcess(['up'], env)
    await up.until('it runs', () => {
      try {
        return JSON.parse(readFileSync(join(dataDir, 'state.json'), 'utf8')).pids.fleetbridge === up.pid
      } catch {
        return false
      }
    })
    return up
  }
  let up = await start()
  const pool = new pg.Pool({ connectionString: database.url, max: 2 })
  try {
    await runMatrix({
      database: pool,
      doors: () => doors,
      async killAll() {
        await up.stop('SIGKILL')
        up = await start()
      },
    })
  } finally {
    await up[Symbol.asyncDispose]()
    await pool.end()
    rmSync(dataDir, { recursive: true, force: true })
  }
})
