import { readdirSync, readFileSync } from 'node:fs'
import mqtt from 'mqtt'
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { hashOf, newToken } from '#cli/registry.ts'
import {
  type CaseMessage,
  type CaseReading,
  type DecodeCase,
  inOrder,
  payloadOf,
  topicOf,
} from '#gateway/normalize/decode-case.ts'
import { Stack } from '#test/stack/stack.ts'

/** A case with a tenant of its own, so that rows of different cases never meet. */
interface SentCase {
  readonly example: DecodeCase
  readonly tenant: string
  readonly device: string
  readonly token: string
}

/** What is stored of a tenant. */
interface Stored {
  readonly readings: readonly CaseReading[]
  readonly codes: readonly string[]
}

const folder = new URL('../../gateway/normalize/cases/', import.meta.url)
const all = readdirSync(folder).flatMap(
  (file) => JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as DecodeCase[],
)
/** Only without a credential is there no device, and only a decoder can be told when a message arrived. */
const sendable = all.filter(
  (example) =>
    example.received_at === undefined && !('error' in example.expect && example.expect.error === 'no_device'),
)
const connectionsAtOnce = 12

let stack: Stack
beforeAll(async () => {
  stack = await Stack.start({
    kafkaBrokers: inject('kafkaBrokers'),
    env: {
      BRIDGE_RETENTION_READING: 'forever',
      // Some cases were seen at paths of other servers: each is a door here, and the default order decides.
      BRIDGE_ROUTES: '[{"path":"/#"}]',
    },
  })
})
afterAll(() => stack?.[Symbol.asyncDispose]())

it('every case becomes the same rows when it is sent by MQTT or HTTP', { timeout: 120_000 }, async () => {
  const cases = await withCredentials(sendable)
  const queue = [...cases]
  const failures: string[] = []
  await Promise.all(
    Array.from({ length: connectionsAtOnce }, async () => {
      for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
        const answer = await (next.example.transport === 'mqtt' ? sendByMqtt(next) : sendByHttp(next))
        const fault = faultOfAnswer(next, answer)
        if (fault !== undefined) failures.push(`${next.example.id}: ${fault}`)
      }
    }),
  )
  expect(failures).toEqual([])
  await vi.waitFor(
    async () => {
      const stored = await storedByTenant()
      expect(cases.flatMap((sent) => differenceOf(sent, stored.get(sent.tenant)))).toEqual([])
    },
    { timeout: 60_000, interval: 500 },
  )
  console.info(`cases end to end: ${cases.length} of ${all.length} sent, the others are the decoder's alone`)
  expect(cases.length).toBeGreaterThan(250)
})

async function withCredentials(examples: readonly DecodeCase[]): Promise<SentCase[]> {
  const cases = examples.map((example, index) => ({
    example,
    tenant: `case-${index}`,
    device: example.client_id ?? 'e2e-sender',
    token: newToken(),
  }))
  await stack.database.query(
    `WITH given AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[]) AS given (tenant, device, hash)),
     made AS (INSERT INTO tenant (name) SELECT tenant FROM given RETURNING id, name),
     added AS (
       INSERT INTO device (tenant_id, external_id) SELECT made.id, given.device FROM given JOIN made ON made.name = given.tenant
       RETURNING id, tenant_id
     )
     INSERT INTO credential (device_id, secret_hash, fleet)
     SELECT added.id, given.hash, true FROM added JOIN made ON made.id = added.tenant_id JOIN given ON given.tenant = made.name`,
    [cases.map(({ tenant }) => tenant), cases.map(({ device }) => device), cases.map(({ token }) => hashOf(token))],
  )
  const last = cases.at(-1) as SentCase
  await vi.waitFor(async () => expect(await login(last)).toBe(true), { timeout: 10_000, interval: 50 })
  return cases
}

async function login({ token }: SentCase): Promise<boolean> {
  const headers = { authorization: `Bearer ${token}` }
  const { status } = await fetch(`${url()}/api/v2/write`, { method: 'POST', headers })
  return status === 204
}

const url = () => `http://127.0.0.1:${stack.httpPort}`

/** The reason code of the PUBACK, 0 for success. */
async function sendByMqtt({ example, device, token, tenant }: SentCase): Promise<number> {
  const client = await mqtt.connectAsync({
    host: '127.0.0.1',
    port: stack.mqttPort,
    clientId: 'e2e',
    username: `${device}@${tenant}`,
    password: token,
    protocolVersion: 5,
    reconnectPeriod: 0,
  })
  const { content_type: contentType } = example
  const send = (message: CaseMessage) =>
    client
      .publishAsync(topicOf(message), payloadOf(message), {
        qos: 1,
        ...(contentType !== undefined && { properties: { contentType } }),
      })
      .then(
        () => 0,
        (error: { code?: number }) => error.code ?? -1,
      )
  for (const message of example.before ?? []) await send(message)
  const code = await send(example)
  await client.endAsync()
  return code
}

/** The status of the answer. */
async function sendByHttp({ example, token }: SentCase): Promise<number> {
  const path = topicOf(example).replace(/^\/api\/v1\/[^/]+\/telemetry/, `/api/v1/${token}/telemetry`)
  const answer = await fetch(url() + path, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      ...example.headers,
      ...(example.content_type !== undefined && { 'content-type': example.content_type }),
    },
    body: new Uint8Array(payloadOf(example)),
  })
  await answer.arrayBuffer()
  return answer.status
}

function faultOfAnswer({ example }: SentCase, answer: number): string | undefined {
  const isBad = 'error' in example.expect
  if (example.transport === 'mqtt') return answer === (isBad ? 0x99 : 0) ? undefined : `PUBACK ${answer}`
  // Line protocol and OwnTracks answer what is parked like what is stored; of an array one element may be bad.
  const taken = [200, 202, 204, 207]
  return (isBad ? [...taken, 400] : taken).includes(answer) ? undefined : `status ${answer}`
}

/** What each tenant has, in two queries for all. */
async function storedByTenant(): Promise<ReadonlyMap<string, Stored>> {
  const { rows: readings } = await stack.database.query<CaseReading & { tenant: string }>(
    `SELECT t.name AS tenant, d.external_id AS device, m.name AS metric, m.unit,
       coalesce(to_jsonb(r.value), to_jsonb(r.text), to_jsonb(r.flag)) AS value,
       to_char(CASE r.clock WHEN 0 THEN r.event_time WHEN 2 THEN r.device_time END AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS ts
     FROM reading r JOIN device d ON d.id = r.device_id JOIN metric m ON m.id = r.metric_id JOIN tenant t ON t.id = d.tenant_id`,
  )
  const { rows: letters } = await stack.database.query<{ tenant: string; code: string }>(
    'SELECT tenant, code FROM dead_letter',
  )
  const stored = new Map<string, { readings: CaseReading[]; codes: string[] }>()
  const of = (tenant: string) => {
    const known = stored.get(tenant) ?? { readings: [], codes: [] }
    stored.set(tenant, known)
    return known
  }
  for (const { tenant, device, metric, value, unit, ts } of readings)
    of(tenant).readings.push({ device, metric, value, unit, ts: ts?.replace(/000Z$/, 'Z') ?? null })
  for (const { tenant, code } of letters) of(tenant).codes.push(code)
  return stored
}

function differenceOf({ example, tenant }: SentCase, stored: Stored = { readings: [], codes: [] }): string[] {
  const wanted = example.expect
  const told = (what: string) => [`${example.id} (${tenant}): ${what}`]
  if ('error' in wanted) {
    // No line at all is a client that asks whether it may write.
    if (wanted.error === 'empty' && /^\/(api\/v2\/)?write/.test(topicOf(example))) return []
    return stored.codes.includes(wanted.error) ? [] : told(`wanted ${wanted.error}, there are ${stored.codes}`)
  }
  if (stored.codes.length > 0) return told(`parked as ${stored.codes}`)
  const readings = example.before === undefined ? stored.readings : withoutSession(stored.readings, wanted.readings)
  const [is, should] = [sorted(readings), sorted(unique(wanted.readings))]
  return is === should ? [] : told(`\n  wanted ${should}\n  stored ${is}`)
}

/** Of a session with earlier messages only what its last one has brought counts. */
function withoutSession(stored: readonly CaseReading[], wanted: readonly CaseReading[]): CaseReading[] {
  const keys = new Set(wanted.map((reading) => JSON.stringify(plain(reading))))
  return stored.filter((reading) => keys.has(JSON.stringify(plain(reading))))
}

/** The same reading twice is one row. */
function unique(readings: readonly CaseReading[]): CaseReading[] {
  return [...new Map(readings.map((reading) => [JSON.stringify(plain(reading)), reading])).values()]
}

function plain({ device, metric, value, unit, ts }: CaseReading): CaseReading {
  return { device, metric, value: typeof value === 'number' ? value + 0 : value, unit, ts }
}

function sorted(readings: readonly CaseReading[]): string {
  const ordered = inOrder({ readings: readings.map(plain) })
  return JSON.stringify('readings' in ordered ? ordered.readings : [])
}
