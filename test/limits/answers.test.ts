import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectAsync, type IClientOptions, type IDisconnectPacket, type MqttClient } from 'mqtt'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { addCredential } from '#gateway/admin/registry/credentials.ts'
import { addDevices } from '#gateway/admin/registry/devices.ts'
import { setLimit } from '#gateway/admin/registry/limits.ts'
import type { LimitSetting } from '#gateway/rate-limit/limit-overrides.ts'
import { limitsByName } from '#gateway/rate-limit/limits.ts'
import { freePort } from '#test/servers/free-port.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { BridgeProcess } from '#test/stack/process.ts'

/** What a device hears when it is over a limit: every kind of limit, on every protocol, in both modes. */
const modes = ['hold', 'refuse'] as const
const transports = ['MQTT 3.1.1', 'MQTT 5', 'HTTP'] as const
type Mode = (typeof modes)[number]
type Transport = (typeof transports)[number]

/** The longest hold of a device's own limit. */
const holdMs = 1200
/** One message, and the next only after this: where it is waited for, and where it is not. */
const windowSeconds = 4
const longSeconds = 3600
const live = '{"values":{"t":21.5}}'
const backlog = `{"ts":${Date.now() - 1_200_000},"values":{"t":21.5}}`
const by = { actor: 'cli:test', makesTenants: true }

interface Kind {
  readonly setting: LimitSetting
  /** Who is over it: a device by itself, a fleet credential, or a device behind one. */
  readonly sender: 'device' | 'fleet' | 'child'
}

const kinds: readonly Kind[] = limitsByName
  .filter(([, , owner]) => owner !== 'all')
  .flatMap(([setting, , owner]): Kind[] =>
    owner === 'device'
      ? [
          { setting, sender: 'device' },
          { setting, sender: 'child' },
        ]
      : owner === 'fleet'
        ? [{ setting, sender: 'fleet' }]
        : [
            { setting, sender: 'device' },
            { setting, sender: 'fleet' },
          ],
  )
const limitOf = (setting: LimitSetting) => limitsByName.find(([name]) => name === setting)?.[1] as string

interface Running {
  readonly mqtt: number
  readonly http: number
}

const cleanUp = new AsyncDisposableStack()
const running = new Map<Mode, Running>()
let databases: Map<Mode, pg.Pool>
let numbered = 0

beforeAll(async () => {
  const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-limits-'))
  cleanUp.defer(() => rmSync(dir, { recursive: true, force: true }))
  databases = new Map()
  await Promise.all(
    modes.map(async (mode) => {
      const { url } = cleanUp.use(await migratedDatabase())
      const ports = { mqtt: await freePort(), http: await freePort() }
      const up = cleanUp.use(
        new BridgeProcess(['up'], {
          DATABASE_URL: url,
          BRIDGE_DATA_DIR: join(dir, mode),
          BRIDGE_MQTT_PORT: String(ports.mqtt),
          BRIDGE_HTTP_PORT: String(ports.http),
          BRIDGE_OPS_PORT: '0',
          BRIDGE_MQTT_HOLD_MS: String(holdMs),
          BRIDGE_MQTT_ON_LIMIT: mode,
          BRIDGE_AUTH_FAILURES: 'none', // a new credential is tried until it is known
        }),
      )
      await up.until('it waits for messages', () => up.output.includes('waiting for the first message'))
      const database = new pg.Pool({ connectionString: url, max: 2 })
      cleanUp.defer(() => database.end())
      databases.set(mode, database)
      running.set(mode, ports)
    }),
  )
}, 60_000)
afterAll(() => cleanUp.disposeAsync())

interface Sender {
  readonly mode: Mode
  /** Whose credential it is. */
  readonly name: string
  readonly token: string
  /** Of which device it speaks. */
  readonly device: string
  readonly body: string
  /** Absent: those of its mode. */
  readonly ports?: Running
}

/** A sender of a tenant of its own, with one limit that lets one message pass. */
async function aSender(mode: Mode, { setting, sender }: Kind, seconds = longSeconds): Promise<Sender> {
  const client = await (databases.get(mode) as pg.Pool).connect()
  try {
    const tenant = `t-${++numbered}`
    const device = `pump-${numbered}`
    const name = sender === 'device' ? device : `gw-${numbered}`
    await addDevices(client, by, tenant, sender === 'device' ? [{ device }] : [{ device }, { device: name }])
    // Nothing else is in the way.
    for (const [other, , owner] of limitsByName)
      if (owner === 'device' || owner === 'fleet')
        await setLimit(client, by, { tenant }, { setting: other, windows: 'none' })
    const windows = `${setting.endsWith('Bytes') ? live.length : 1}:${seconds}`
    const [, , of] = limitsByName.find(([known]) => known === setting) as (typeof limitsByName)[number]
    const owner = of === 'fleet' ? name : device
    await setLimit(client, by, of === 'tenant' ? { tenant } : { tenant, device: owner }, { setting, windows })
    // Last, so that who knows it knows the limits, too.
    const { token } = await addCredential(client, by, {
      tenant,
      device: name,
      proof: { kind: 'token' },
      role: sender === 'device' ? 'device' : 'fleet',
      makesDevice: false,
    })
    return { mode, name, token: token as string, device, body: setting.startsWith('catchUp') ? backlog : live }
  } finally {
    client.release()
  }
}

const portsOf = ({ mode, ports }: Sender) => ports ?? (running.get(mode) as Running)

/** As often as it takes until its credential is known, which its limits then are, too. */
function connect(sender: Sender, transport: Transport): Promise<MqttClient> {
  return vi.waitFor(
    async () => {
      const options: IClientOptions = {
        protocolVersion: transport === 'MQTT 5' ? 5 : 4,
        clientId: `c-${++numbered}`,
        username: sender.name,
        password: sender.token,
        reconnectPeriod: 0,
      }
      const client = await connectAsync(`mqtt://127.0.0.1:${portsOf(sender).mqtt}`, options, false)
      client.on('error', () => {})
      return client
    },
    { timeout: 5000, interval: 100 },
  )
}

interface Heard {
  readonly answer: string
  /** From the message to its answer. */
  readonly tookMs: number
  readonly reason?: string | undefined
}

/** Sends one message, and says what came first: its acknowledgement, or the end of the connection. */
async function publish(client: MqttClient, { device, body }: Sender, qos: 1 | 2): Promise<Heard> {
  const startMs = performance.now()
  let goodbye: IDisconnectPacket | undefined
  client.once('disconnect', (packet) => (goodbye = packet))
  const closed = new Promise<void>((resolve) => client.once('close', () => resolve())).then(() =>
    goodbye === undefined ? 'closed' : `disconnect 0x${(goodbye.reasonCode as number).toString(16)}`,
  )
  const acknowledged = client.publishAsync(`devices/${device}/telemetry`, body, { qos }).then(
    () => 'stored',
    async (error: { code?: unknown }) =>
      typeof error.code === 'number' ? `ack 0x${error.code.toString(16)}` : await closed,
  )
  const answer = await Promise.race([closed, acknowledged])
  return { answer, tookMs: performance.now() - startMs, reason: goodbye?.properties?.reasonString }
}

async function post(sender: Sender): Promise<Response> {
  return await fetch(
    `http://127.0.0.1:${portsOf(sender).http}/v1/devices/${encodeURIComponent(sender.device)}/telemetry`,
    {
      method: 'POST',
      headers: { authorization: `Bearer ${sender.token}`, 'content-type': 'application/json' },
      body: sender.body,
    },
  )
}

/** The notices on the errors topic of whoever's credential it is. */
async function listen(sender: Sender, transport: Transport): Promise<unknown[]> {
  const notices: unknown[] = []
  const client = await connect(sender, transport)
  client.on('message', (_topic, payload) => notices.push(JSON.parse(payload.toString())))
  await client.subscribeAsync('devices/me/errors')
  cleanUp.defer(() => void client.end(true))
  return notices
}

describe.concurrent.each(modes)('%s', (mode) => {
  describe.concurrent.each(transports)('%s', (transport) => {
    it.concurrent.each(kinds)('$setting, sent by a $sender', async (kind) => {
      const limit = limitOf(kind.setting)
      const isOwn = kind.sender === 'device' && !limit.includes('tenant')
      const sender = await aSender(mode, kind, transport === 'HTTP' || isOwn ? longSeconds : windowSeconds)
      if (transport === 'HTTP') {
        await vi.waitFor(async () => expect((await post(sender)).status).toBe(202), { timeout: 5000, interval: 100 })
        // A gateway knows a new device a moment before it knows the limit that is set for it.
        const answer = await vi.waitFor(async () => {
          const next = await post(sender)
          expect(next.status).toBe(429)
          return next
        })
        expect(answer.headers.get('content-type')).toBe('application/problem+json')
        const problem = (await answer.json()) as { waitMs: number }
        expect(problem).toMatchObject({ status: 429, code: 'rate_limited', limit, waitMs: expect.any(Number) })
        expect(problem.waitMs).toBeGreaterThan(0)
        expect(answer.headers.get('retry-after')).toBe(String(Math.ceil(problem.waitMs / 1000)))
        // A fleet's children are known by the body, the headers are about whoever sent it.
        if (kind.sender === 'child') return
        expect(answer.headers.get('ratelimit-policy')).toContain(`"${limit}";q=`)
        expect(answer.headers.get('ratelimit')).toMatch(new RegExp(`"${limit}";r=\\d+;t=\\d+`))
        return
      }
      const notices = await listen(sender, transport)
      const client = await connect(sender, transport)
      expect(await publish(client, sender, 1), 'what the limit allows').toMatchObject({ answer: 'stored' })
      const heard = await publish(client, sender, 1)
      client.end(true)
      if (!isOwn) {
        // Longer than any hold of its own: it waits for its turn, and nobody hangs up.
        expect(heard.answer).toBe('stored')
        expect(heard.tookMs).toBeGreaterThan(holdMs + 500)
        expect(notices).toEqual([])
        return
      }
      const refusesAtOnce = mode === 'refuse' && transport === 'MQTT 5'
      expect(heard.answer).toBe(refusesAtOnce ? 'ack 0x97' : transport === 'MQTT 5' ? 'disconnect 0x96' : 'closed')
      if (refusesAtOnce) expect(heard.tookMs).toBeLessThan(holdMs)
      else expect(heard.tookMs).toBeGreaterThan(holdMs * 0.9)
      if (heard.answer === 'disconnect 0x96') expect(heard.reason).toContain(`"${limit}"`)
      const notice = { code: 'rate_limited', limit, waitMs: expect.any(Number), pid: expect.any(Number) }
      await vi.waitFor(() => expect(notices).toEqual([notice]))
    })
  })

  it.concurrent.each(['MQTT 3.1.1', 'MQTT 5'] as const)('%s: QoS 2 hears the same in its PUBREC', async (transport) => {
    const sender = await aSender(mode, { setting: 'device', sender: 'device' })
    const client = await connect(sender, transport)
    expect(await publish(client, sender, 2)).toMatchObject({ answer: 'stored' })
    const { answer } = await publish(client, sender, 2)
    client.end(true)
    if (transport === 'MQTT 3.1.1') expect(answer).toBe('closed')
    else expect(answer).toBe(mode === 'refuse' ? 'ack 0x97' : 'disconnect 0x96')
  })

  it.concurrent.each(['MQTT 3.1.1', 'MQTT 5'] as const)(
    '%s: QoS 0 is dropped, and told on the errors topic',
    async (transport) => {
      const sender = await aSender(mode, { setting: 'device', sender: 'device' })
      const notices = await listen(sender, transport)
      const client = await connect(sender, transport)
      expect(await publish(client, sender, 1)).toMatchObject({ answer: 'stored' })
      for (let n = 0; n < 3; n++) await client.publishAsync('devices/me/telemetry', sender.body, { qos: 0 })
      const notice = { code: 'rate_limited', limit: 'device', waitMs: expect.any(Number) }
      await vi.waitFor(() => expect(notices).toEqual([notice, notice, notice]))
      await sleep(holdMs + 300)
      expect(client.connected).toBe(true)
      client.end(true)
      const { rowCount } = await (databases.get(mode) as pg.Pool).query('SELECT FROM telemetry WHERE device = $1', [
        sender.device,
      ])
      expect(rowCount).toBe(1)
    },
  )
})

describe('a limit of the whole installation', () => {
  let sender: Sender
  const mode = 'hold'
  const all = new AsyncDisposableStack()
  const ports = { mqtt: 0, http: 0 }

  beforeAll(async () => {
    const { url } = all.use(await migratedDatabase())
    const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-limits-all-'))
    all.defer(() => rmSync(dir, { recursive: true, force: true }))
    ports.mqtt = await freePort()
    ports.http = await freePort()
    const up = all.use(
      new BridgeProcess(['up'], {
        DATABASE_URL: url,
        BRIDGE_DATA_DIR: dir,
        BRIDGE_MQTT_PORT: String(ports.mqtt),
        BRIDGE_HTTP_PORT: String(ports.http),
        BRIDGE_OPS_PORT: '0',
        BRIDGE_MQTT_HOLD_MS: String(holdMs),
        BRIDGE_AUTH_FAILURES: 'none',
        BRIDGE_LIMITS_ALL: `1:${windowSeconds}`,
      }),
    )
    await up.until('it waits for messages', () => up.output.includes('waiting for the first message'))
    const client = new pg.Client(url)
    await client.connect()
    const [made] = await addDevices(client, by, 'acme', [{ device: 'pump-1' }])
    await client.end()
    sender = { mode, name: 'pump-1', token: made?.token as string, device: 'pump-1', body: live, ports }
  }, 60_000)
  afterAll(() => all.disposeAsync())

  it('is held over MQTT, and 429 over HTTP', async () => {
    for (const transport of ['MQTT 3.1.1', 'MQTT 5'] as const) {
      const client = await connect(sender, transport)
      expect(await publish(client, sender, 1)).toMatchObject({ answer: 'stored' })
      const heard = await publish(client, sender, 1)
      expect(heard.answer).toBe('stored')
      expect(heard.tookMs).toBeGreaterThan(holdMs + 500)
      client.end(true)
    }
    const answer = await post(sender)
    expect(answer.status).toBe(429)
    expect(await answer.json()).toMatchObject({ code: 'rate_limited', limit: 'all', waitMs: expect.any(Number) })
    expect(answer.headers.get('ratelimit')).toContain('"all";r=0;t=')
  })
})
