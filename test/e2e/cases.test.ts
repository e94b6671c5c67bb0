import { readdirSync, readFileSync } from 'node:fs'
import mqtt from 'mqtt'
import pg from 'pg'
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { addFleetCredential } from '#cli/registry.ts'
import { addTenant } from '#gateway/admin/registry/tenants.ts'
import { type CaseReading, type DecodeCase, runCase } from '#gateway/normalize/decode-case.ts'
import { Stack } from '#test/stack/stack.ts'

/** Every case of the formats, sent by a fleet credential as its device would, becomes the rows that it says, or a dead letter with its code. */
const folder = new URL('../../gateway/normalize/cases/', import.meta.url)
const cases = readdirSync(folder)
  .flatMap((name) => JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as DecodeCase[])
  // Here there is always a device that sends, and it is now.
  .filter(
    (example) =>
      example.received_at === undefined && !('error' in example.expect && example.expect.error === 'no_device'),
  )

/** Paths that the gateway does not have stand for any that takes telemetry. */
const foreignPath = /^\/(ingest|events|chirpstack)(?=$|\?)/

const cleanUp = new AsyncDisposableStack()
let stack: Stack
const tokens = new Map<string, string>()
/** Each case has a tenant to itself, since many speak of the same devices. */
const tenantOf = (index: number) => `case-${index}`

beforeAll(async () => {
  stack = cleanUp.use(
    await Stack.start({
      kafkaBrokers: inject('kafkaBrokers'),
      env: { BRIDGE_RETENTION_READING: 'forever', BRIDGE_MQTT_CONNECT_RATE: 'none', BRIDGE_LIMITS_DEVICE: 'none' },
    }),
  )
  const client = new pg.Client(stack.env.DATABASE_URL)
  await client.connect()
  for (const [index, example] of cases.entries()) {
    const tenant = tenantOf(index)
    await addTenant(client, { actor: 'cli:test', makesTenants: true }, tenant)
    const { token } = await addFleetCredential(client, { tenant, name: senderOf(example), pattern: undefined })
    tokens.set(tenant, token)
  }
  await client.end()
  await new Promise((resolve) => setTimeout(resolve, 1500)) // until the gateway knows them all
}, 120_000)
afterAll(() => cleanUp.disposeAsync())

const senderOf = ({ client_id: device }: DecodeCase) => device ?? 'sender'

it(`${cases.length} cases become rows and dead letters`, { timeout: 120_000 }, async () => {
  const startMs = Date.now()
  for (const [index, example] of cases.entries()) await send(example, tokens.get(tenantOf(index)) as string)
  await vi.waitFor(
    async () => {
      const rows = await rowsByTenant(startMs)
      const codes = await codesByTenant()
      const wrong: unknown[] = []
      for (const [index, example] of cases.entries()) {
        const seen = rows.get(tenantOf(index)) ?? []
        const parked = codes.get(tenantOf(index)) ?? []
        if ('error' in example.expect) {
          if (!parked.includes(example.expect.error))
            wrong.push({ id: example.id, expected: example.expect, parked, seen })
          continue
        }
        const expected = [...new Set([...earlier(example), ...example.expect.readings].map(lineOf))].sort()
        if (JSON.stringify(seen) !== JSON.stringify(expected)) wrong.push({ id: example.id, expected, seen, parked })
      }
      expect(wrong).toEqual([])
    },
    { timeout: 30_000, interval: 500 },
  )
})

/** Readings of what the session said before; they become rows, too. */
function earlier(example: DecodeCase): CaseReading[] {
  const { before = [] } = example
  return before.flatMap((message, index) => {
    const { result } = runCase({ ...example, ...message, before: before.slice(0, index) })
    return 'readings' in result ? [...result.readings] : []
  })
}

async function send(example: DecodeCase, token: string): Promise<void> {
  if (example.transport === 'http') {
    const path = (example.path ?? '').replace(foreignPath, '/v1/telemetry').replace('ACCESS_TOKEN', token)
    const response = await fetch(`http://127.0.0.1:${stack.httpPort}${path}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        ...example.headers,
        ...(example.content_type !== undefined && { 'content-type': example.content_type }),
      },
      // A text would bring a content type of its own.
      body: new Uint8Array(payloadOf(example)),
    })
    await response.arrayBuffer()
    return
  }
  const client = await mqtt.connectAsync({
    host: '127.0.0.1',
    port: stack.mqttPort,
    clientId: 'case',
    username: senderOf(example),
    password: token,
    protocolVersion: 5,
    reconnectPeriod: 0,
  })
  for (const message of [...(example.before ?? []), example]) {
    const contentType = example.content_type
    const properties = contentType === undefined ? {} : { properties: { contentType } }
    await client
      .publishAsync(message.topic ?? '', payloadOf(message), { qos: 1, ...properties })
      .catch((error: { code?: number }) => expect(error.code, `${example.id}: parked`).toBe(0x99))
  }
  await client.endAsync()
}

function payloadOf({
  payload_base64: base64,
  payload_utf8: text,
}: Pick<DecodeCase, 'payload_base64' | 'payload_utf8'>): Buffer {
  return base64 === undefined ? Buffer.from(text ?? '') : Buffer.from(base64, 'base64')
}

async function rowsByTenant(startMs: number): Promise<Map<string, string[]>> {
  const { rows } = await stack.database.query<{ tenant: string; us: string } & Row>(
    'SELECT tenant, device, metric, unit, (extract(epoch FROM time) * 1000000)::bigint AS us, value, text, flag FROM telemetry',
  )
  const byTenant = new Map<string, string[]>()
  for (const { tenant, device, metric, unit, us, value, text, flag } of rows) {
    const timeUs = Number(us) >= startMs * 1000 ? null : Number(us)
    const lines = byTenant.get(tenant) ?? []
    lines.push(JSON.stringify([device, metric, value ?? text ?? flag, unit, timeUs]))
    byTenant.set(tenant, lines)
  }
  for (const lines of byTenant.values()) lines.sort()
  return byTenant
}

interface Row {
  readonly device: string
  readonly metric: string
  readonly unit: string | null
  readonly value: number | null
  readonly text: string | null
  readonly flag: boolean | null
}

async function codesByTenant(): Promise<Map<string, string[]>> {
  const { rows } = await stack.database.query<{ tenant: string; codes: string[] }>(
    'SELECT tenant, array_agg(code) AS codes FROM dead_letter GROUP BY tenant',
  )
  return new Map(rows.map(({ tenant, codes }) => [tenant, codes]))
}

/** As a row: the time of arrival where there is none, or one of a clock that runs ahead. */
function lineOf({ device, metric, value, unit, ts }: CaseReading): string {
  const timeUs = ts === null ? null : microsecondsOf(ts)
  const isAhead = timeUs !== null && timeUs > (Date.now() + 600_000) * 1000
  return JSON.stringify([device, metric, value, unit, isAhead ? null : timeUs])
}

function microsecondsOf(ts: string): number {
  const [, whole = '', fraction = ''] = /^(.*\.)(\d+)Z$/.exec(ts) ?? []
  return Date.parse(`${whole}000Z`) * 1000 + Number(fraction.padEnd(6, '0'))
}
