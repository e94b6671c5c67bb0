import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { Pool } from 'undici'
import { createClock } from '#simulator/clock.ts'
import { Histogram } from '#simulator/fleet/histogram.ts'
import { deviceIdsOf, readLogins } from '#simulator/logins.ts'
import { createPayloadMaker } from '#simulator/payload.ts'
import type { LoadMessage, LoadOptions } from './load.ts'

// A closed loop of POSTs of `batch` messages each: every device sends its next request when the last one was answered.
const options = JSON.parse(process.argv[2] ?? '') as LoadOptions
const batch = options.batch ?? 100
const logins = readLogins(readFileSync(options.csv, 'utf8')).slice(0, options.devices)
const pool = new pg.Pool({ connectionString: options.databaseUrl, max: 1 })
const http = new Pool(`http://127.0.0.1:${options.port}`, { connections: logins.length })
const clock = createClock()
const payloads = createPayloadMaker(options.readings, 1)
const numbers = new Uint32Array(logins.length)
const tell = (message: LoadMessage) => process.send?.(message)

async function run(durationMs: number) {
  const answers = new Histogram()
  const cpu = process.cpuUsage()
  let acked = 0
  let refused = 0
  const start = performance.now()
  await Promise.all(
    logins.map(async ({ token }, device) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
      while (performance.now() - start < durationMs) {
        const sentUs = clock.nowUs()
        const bodies: string[] = []
        for (let index = 0; index < batch; index++) {
          numbers[device] = (numbers[device] as number) + 1
          // No two messages of a device share a time.
          bodies.push(payloads.body(device, numbers[device] as number, Math.round(sentUs) + index))
        }
        const answer = await http.request({
          method: 'POST',
          path: '/v1/telemetry',
          headers,
          body: `[${bodies.join()}]`,
        })
        await answer.body.text()
        if (answer.statusCode === 202) {
          acked += batch
          answers.record(clock.nowUs() - sentUs)
        } else refused += batch
      }
    }),
  )
  const { user, system } = process.cpuUsage(cpu)
  return { acked, refused, durationMs: performance.now() - start, cpuUs: user + system, answers }
}

const deviceIds = await deviceIdsOf(pool, logins)
const countRows = async () =>
  Number(
    (await pool.query('SELECT count(*) FROM reading WHERE device_id = ANY ($1::int[])', [deviceIds])).rows[0].count,
  )

if (options.warmupMs > 0) await run(options.warmupMs)
await settle(await countRows(), Number.POSITIVE_INFINITY)
const before = await countRows()
tell({ phase: 'sending' })
const result = await run(options.durationMs)
tell({ phase: 'answered' })
const storedAtEnd = (await countRows()) - before
const settled = performance.now()
const rows = (await settle(before, result.acked * options.readings)) - before
const settledAfterMs = performance.now() - settled
tell({ phase: 'settled' })
const paceMs = { p50: 0, p90: 0, p99: 0, p999: 0, max: 0 }
tell({
  report: {
    runId: options.name,
    protocol: 'http',
    url: `http://127.0.0.1:${options.port}`,
    devices: logins.length,
    seed: 1,
    rate: { asked: null, reached: ((result.acked + result.refused) * 1000) / result.durationMs },
    durationMs: result.durationMs,
    stopped: false,
    due: result.acked + result.refused,
    sent: result.acked + result.refused,
    acked: result.acked,
    refused: result.refused,
    unacked: 0,
    refusals: {},
    connectionErrors: {},
    reconnects: 0,
    resent: 0,
    ackMs: result.answers.percentiles(),
    self: { cpuUsPerMessage: result.cpuUs / Math.max(1, result.acked), paceMs, keptPace: true },
    compared: true,
    rows,
    missing: Math.max(0, Math.ceil((result.acked * options.readings - rows) / options.readings)),
    doubled: 0,
    unackedButStored: 0,
    refusedButStored: 0,
    misplaced: 0,
    foreign: Math.max(0, rows - result.acked * options.readings),
    examples: [],
    storedAtEnd: Math.floor(storedAtEnd / options.readings),
    settledAfterMs,
    ok: rows === result.acked * options.readings,
  },
})
await Promise.all([pool.end(), http.destroy()])
process.disconnect?.()

/** Until as many rows are there, or none came for 3 s. @returns rows in all */
async function settle(from: number, wanted: number): Promise<number> {
  let rows = -1
  for (let calmMs = 0; calmMs < 3000; calmMs += 100) {
    const now = await countRows()
    if (now !== rows) calmMs = 0
    rows = now
    if (rows - from >= wanted) return rows
    await sleep(100)
  }
  return rows
}
