/**
 * What the registry costs: `DATABASE_URL=postgres://… node --expose-gc bench/registry.bench.ts` on an empty database of a scratch server.
 * CREDENTIALS (100,000) tokens of as many devices; prints the time to load them, memory, the delay of the event loop while it loads, CPU of
 * both sides while nothing changes, and how long look-ups, a revocation and a read of everything take.
 */

import { createHash, randomBytes } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import pg from 'pg'
import type { Principal } from '#gateway/auth/principal.ts'
import { startRegistry } from '#gateway/auth/registry.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { migrate } from '#platform/migrate.ts'

const databaseUrl = process.env.DATABASE_URL
if (databaseUrl === undefined) throw new Error('DATABASE_URL names a scratch database')
const { gc } = globalThis
if (gc === undefined) throw new Error('node --expose-gc, or memory says nothing')
const total = Number(process.env.CREDENTIALS ?? 100_000)

await migrate(databaseUrl, silentLog)
const client = new pg.Client(databaseUrl)
await client.connect()
const tokens: string[] = []
await fill()

const before = heap()
const delays = monitorEventLoopDelay({ resolution: 1 })
delays.enable()
const cpu = process.cpuUsage()
const startedAt = performance.now()
await using registry = await startRegistry({
  databaseUrl,
  auth: { jwt: [], clientCas: [] },
  limits: { firstSightDevices: 1000, firstSightPerMinute: 60 },
  onLimitOverrides: () => {},
  log: silentLog,
  metrics: createMetrics('bench'),
})
await registry.refreshed()
const loadMs = performance.now() - startedAt
const { user, system } = process.cpuUsage(cpu)
delays.disable()
console.log(
  `${total} credentials: loaded in ${loadMs.toFixed(0)} ms (CPU ${((user + system) / 1000).toFixed(0)} ms), the event loop late by ${(delays.max / 1e6).toFixed(0)} ms at most`,
)
console.log(`memory: ${((heap() - before) / total).toFixed(0)} bytes each, its device included`)

await idle()
lookUp()
await revoke()
await deleteOne()
await client.end()

async function fill(): Promise<void> {
  const batch = 10_000
  for (let from = 0; from < total; from += batch) {
    const some = Array.from(
      { length: Math.min(batch, total - from) },
      () => `fb_${randomBytes(32).toString('base64url')}`,
    )
    tokens.push(...some)
    await client.query(
      `WITH added AS (
         INSERT INTO device (tenant_id, external_id) SELECT 1, 'meter-' || n FROM generate_series($1::int, $2::int) n RETURNING id, external_id
       )
       INSERT INTO credential (device_id, secret_hash, updated_at)
       SELECT added.id, secret.hash, now() - interval '1 hour'
       FROM added JOIN unnest($3::bytea[]) WITH ORDINALITY AS secret (hash, n) ON added.external_id = 'meter-' || (secret.n + $1 - 1)`,
      [from, from + some.length - 1, some.map((token) => createHash('sha256').update(token).digest())],
    )
  }
  await client.query(`ALTER TABLE device DISABLE TRIGGER device_touch`)
  await client.query(`UPDATE device SET updated_at = now() - interval '1 hour'`)
  await client.query(`ALTER TABLE device ENABLE TRIGGER device_touch`)
  await client.query('VACUUM ANALYZE device, credential')
}

/** Nothing changes for ten polls. */
async function idle(): Promise<void> {
  const start = process.cpuUsage()
  await new Promise((resolve) => setTimeout(resolve, 10_000))
  const spent = process.cpuUsage(start)
  console.log(
    `while nothing changes: ${((spent.user + spent.system) / 10_000).toFixed(1)} ms CPU a second in this process`,
  )
  const times: number[] = []
  for (let turn = 0; turn < 10; turn++) {
    const at = performance.now()
    await client.query('SELECT count(*) FROM credential')
    times.push(performance.now() - at)
  }
  console.log(`the count that finds deleted rows: ${times.sort((a, b) => a - b)[5]?.toFixed(1)} ms`)
}

function lookUp(): void {
  const at = performance.now()
  for (const token of tokens)
    if (typeof registry.authenticate({ secret: token }) === 'string') throw new Error('not known')
  console.log(`look-up: ${(((performance.now() - at) / tokens.length) * 1000).toFixed(2)} µs each`)
}

async function revoke(): Promise<void> {
  const principal = registry.authenticate({ secret: tokens[7] as string }) as Principal
  const told = new Promise<number>((resolve) => registry.onChange(() => resolve(performance.now())))
  await client.query('UPDATE credential SET revoked_at = now() WHERE secret_hash = $1', [
    createHash('sha256')
      .update(tokens[7] as string)
      .digest(),
  ])
  const at = performance.now()
  const toldAt = await told
  if (registry.isLive(principal)) throw new Error('still live')
  console.log(`revocation: felt ${(toldAt - at).toFixed(0)} ms after its commit`)
}

/** A deleted row makes the registry read everything again. */
async function deleteOne(): Promise<void> {
  const told = new Promise<number>((resolve) => registry.onChange(() => resolve(performance.now())))
  await client.query('DELETE FROM credential WHERE secret_hash = $1', [
    createHash('sha256')
      .update(tokens[9] as string)
      .digest(),
  ])
  const at = performance.now()
  console.log(`deletion, and with it a read of everything: felt after ${((await told) - at).toFixed(0)} ms`)
}

function heap(): number {
  gc?.()
  gc?.()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
