import mqtt, { type MqttClient } from 'mqtt'
import { get } from 'sparkplug-payload'
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { BridgeProcess } from '#test/stack/process.ts'
import { Stack } from '#test/stack/stack.ts'

type Encoder = NonNullable<ReturnType<typeof get>>
type Metric = NonNullable<Parameters<Encoder['encodePayload']>[0]['metrics']>[number]

const sparkplug = get('spBv1.0') as Encoder
const cleanUp = new AsyncDisposableStack()
let stack: Stack
let secondPort: number
let token: string

beforeAll(async () => {
  stack = cleanUp.use(await Stack.start({ kafkaBrokers: inject('kafkaBrokers') }))
  const [mqttPort, httpPort, ops] = [await freePort(), await freePort(), await freePort()]
  const second = cleanUp.use(
    new BridgeProcess(['gateway'], {
      ...stack.env,
      BRIDGE_MQTT_PORT: String(mqttPort),
      BRIDGE_HTTP_PORT: String(httpPort),
      BRIDGE_OPS_PORT: String(ops),
      BRIDGE_ADMIN_PORT: '0',
    }),
  )
  await second.until('/readyz is 200', async () => {
    const answer = await fetch(`http://127.0.0.1:${ops}/readyz`).catch(() => undefined)
    return answer?.ok === true
  })
  secondPort = mqttPort
  token = await stack.addFleet('edge')
})
afterAll(() => cleanUp.disposeAsync())

/** An edge node as its makers' library has it: a death as its will, commands before its birth, aliases after it. */
class EdgeNode {
  readonly client: MqttClient
  readonly commands: Metric[] = []
  /** Births that are told, with that of the device. */
  births = 0

  private constructor(client: MqttClient) {
    this.client = client
    client.on('message', (_topic, payload) => {
      for (const metric of sparkplug.decodePayload(payload).metrics ?? []) {
        this.commands.push(metric)
        if (metric.name === 'Node Control/Rebirth' && metric.value === true) void this.birth()
      }
    })
  }

  static async connect(port: number): Promise<EdgeNode> {
    const client = await mqtt.connectAsync({
      host: '127.0.0.1',
      port,
      clientId: 'edge',
      username: 'edge',
      password: token,
      reconnectPeriod: 0,
      will: { topic: 'spBv1.0/Plant/NDEATH/Edge', payload: Buffer.from(encoded([bdSeq])), qos: 1, retain: false },
    })
    const node = new EdgeNode(client)
    const [granted] = await client.subscribeAsync('spBv1.0/Plant/NCMD/Edge/#', { qos: 1 })
    expect(granted?.qos).toBe(1)
    return node
  }

  async birth(): Promise<void> {
    await this.#publish('NBIRTH', '', [bdSeq, { name: 'Temperature', alias: 1, type: 'Double', value: 20 }])
    await this.#publish('DBIRTH', '/Tank', [{ name: 'Level', alias: 2, type: 'Int32', value: 70 }])
    this.births++
  }

  data(temperature: number, level: number): Promise<unknown> {
    return Promise.all([
      this.#publish('NDATA', '', [{ alias: 1, value: temperature, type: 'Double' } as Metric]),
      this.#publish('DDATA', '/Tank', [{ alias: 2, value: level, type: 'Int32' } as Metric]),
    ])
  }

  #publish(type: string, device: string, metrics: Metric[]): Promise<unknown> {
    return this.client.publishAsync(`spBv1.0/Plant/${type}/Edge${device}`, Buffer.from(encoded(metrics)), { qos: 1 })
  }
}

const bdSeq: Metric = { name: 'bdSeq', type: 'UInt64', value: 0 }
const encoded = (metrics: Metric[]) => sparkplug.encodePayload({ timestamp: Date.now(), metrics, seq: 0 })

/** `device metric value`, in the order of their times. */
async function rows(where: string): Promise<string[]> {
  const { rows: found } = await stack.database.query<{ row: string }>(
    `SELECT device || ' ' || metric || ' ' || coalesce(value::text, flag::text) AS row FROM telemetry WHERE ${where} ORDER BY ingest_time, time, metric`,
  )
  return found.map(({ row }) => row)
}

it('an edge node: birth, data by alias, death; at another gateway it is asked for its birth, and data flows on', async () => {
  const first = await EdgeNode.connect(stack.mqttPort)
  await first.birth()
  await first.data(21.5, 71)
  await vi.waitFor(async () =>
    expect((await rows('true')).sort()).toEqual([
      'Plant/Edge Temperature 20',
      'Plant/Edge Temperature 21.5',
      'Plant/Edge online true',
      'Plant/Edge/Tank Level 70',
      'Plant/Edge/Tank Level 71',
      'Plant/Edge/Tank online true',
    ]),
  )
  expect(first.commands, 'nobody asked').toEqual([])

  first.client.stream.destroy()
  await vi.waitFor(async () =>
    expect(await rows(`metric = 'online' AND NOT flag`)).toEqual(['Plant/Edge online false']),
  )

  // It takes its session for whole, as after a balancer has moved its connection.
  const second = await EdgeNode.connect(secondPort)
  await second.data(22.5, 72)
  await vi.waitFor(() => expect(second.births, 'it was asked once, though two messages were unknown').toBe(1))
  await second.data(23.5, 73)
  await vi.waitFor(async () => {
    const values = (await rows(`metric IN ('Temperature', 'Level')`)).sort()
    expect(values).toContain('Plant/Edge Temperature 23.5')
    expect(values).toContain('Plant/Edge/Tank Level 73')
    expect(values, 'what came before the birth is not made up').not.toContain('Plant/Edge Temperature 22.5')
  })
  const { rows: parked } = await stack.database.query('SELECT code, topic FROM dead_letter ORDER BY topic')
  expect(parked).toEqual([
    { code: 'unknown_alias', topic: 'spBv1.0/Plant/DDATA/Edge/Tank' },
    { code: 'unknown_alias', topic: 'spBv1.0/Plant/NDATA/Edge' },
  ])
  await second.client.endAsync()
})
