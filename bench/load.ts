import { readFileSync } from 'node:fs'
import pg from 'pg'
import { readLogins } from '#simulator/logins.ts'
import type { Report } from '#simulator/report.ts'
import { type Phase, simulate } from '#simulator/simulate.ts'

/** What the load generator is asked for, as JSON in its first argument. It runs in a process of its own, so that its CPU is its own. */
export interface LoadOptions {
  readonly name: string
  readonly port: number
  readonly protocol?: 'mqtt' | 'http'
  /** Of one HTTP request; one when absent. */
  readonly batch?: number
  /** File of device,token lines. */
  readonly csv: string
  readonly devices: number
  /** Messages a second; absent: a closed loop, one in flight for each device. */
  readonly rate?: number
  readonly warmupMs: number
  readonly durationMs: number
  readonly readings: number
  /** Where the rows are compared; absent: nowhere. */
  readonly databaseUrl?: string
}

/** What it tells whoever forked it. */
export type LoadMessage = { readonly phase: Phase } | { readonly report: Report }

const options = JSON.parse(process.argv[2] ?? '') as LoadOptions
const pool =
  options.databaseUrl === undefined ? undefined : new pg.Pool({ connectionString: options.databaseUrl, max: 2 })
const logins = readLogins(readFileSync(options.csv, 'utf8')).slice(0, options.devices)

function run(durationMs: number, measured: boolean): Promise<Report> {
  return simulate({
    runId: options.name,
    protocol: options.protocol ?? 'mqtt',
    host: '127.0.0.1',
    port: options.port,
    rate: options.rate,
    durationMs,
    logins,
    readings: options.readings,
    qos: 1,
    protocolVersion: 4,
    seed: 1,
    ...(options.rate === undefined && { maxInFlight: 1 }),
    pool: measured ? pool : undefined,
    connectMs: 30_000,
    drainMs: 30_000,
    settleMs: 120_000,
    signal: new AbortController().signal,
    ...(measured && { onPhase: (phase) => tell({ phase }) }),
  })
}

function tell(message: LoadMessage): void {
  process.send?.(message)
}

// Code that no one has run yet is slow on both sides: what is measured is a process that has been up for a while.
if (options.warmupMs > 0) await run(options.warmupMs, false)
tell({ report: await run(options.durationMs, true) })
await pool?.end()
process.disconnect?.()
