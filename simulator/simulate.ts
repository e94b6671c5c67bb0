import type { Pool } from 'pg'
import { createClock } from './clock.ts'
import { createHttpFleet } from './http-fleet.ts'
import { deviceIdsOf } from './logins.ts'
import { createMqttFleet } from './mqtt-fleet.ts'
import type { ProtocolVersion } from './mqtt-frames.ts'
import { Outbox } from './outbox.ts'
import { createPayloadMaker } from './payload.ts'
import { showProgress } from './progress.ts'
import { seededRandom } from './random.ts'
import type { Report, StoredReport } from './report.ts'
import { createSchedule } from './schedule.ts'
import { type PaceResult, runClosedLoop, runOpenLoop } from './simulation.ts'
import { compareRows, type SentByFleet, waitForRows } from './stored-rows.ts'
import type { DeviceLogin, Transport } from './transport.ts'

export interface SimulateOptions {
  readonly protocol: 'mqtt' | 'http'
  readonly host: string
  readonly port: number
  /** Messages a second of all devices together; undefined: a closed loop, each device sends when it was answered. */
  readonly rate: number | undefined
  readonly durationMs: number
  /** Names the run in its report. */
  readonly runId: string
  readonly logins: readonly DeviceLogin[]
  readonly readings: number
  readonly qos: 0 | 1
  readonly protocolVersion: ProtocolVersion
  readonly seed: number
  /** Unacknowledged messages of one device. */
  readonly maxInFlight?: number
  /** Where the rows are; undefined: nothing is compared. */
  readonly pool: Pool | undefined
  /** How long devices may take to get in, answers may be awaited, and rows may take to settle. */
  readonly connectMs: number
  readonly drainMs: number
  readonly settleMs: number
  readonly progress?: NodeJS.WriteStream
  /** Told when the first message goes out, when the last answer is in, and when the rows are (before they are compared). */
  readonly onPhase?: (phase: Phase) => void
  /** Ends sending early; what was sent is still compared. */
  readonly signal: AbortSignal
}

export type Phase = 'sending' | 'answered' | 'settled'

/** The simulator's own delay past which its figures say more about itself than about the other side. */
const paceToleranceMs = 20

/** Rows of messages whose answer was lost may still be on their way when those of the others are there. */
const calmMs = 1000
const calmAfterTroubleMs = 5000

/**
 * One run: signs the devices in, sends at a pace, waits for answers and rows, and compares every number.
 * @throws BridgeError BRIDGE_NOT_RUNNING when no device got in, BRIDGE_USAGE when the database does not know the devices
 */
export async function simulate(options: SimulateOptions): Promise<Report> {
  const { pool, logins, protocol, host, port, rate, durationMs, seed, qos } = options
  const deviceIds = pool === undefined ? undefined : await deviceIdsOf(pool, logins)
  const clock = createClock()
  const payloads = createPayloadMaker(options.readings, seed)
  const random = seededRandom(seed)
  const schedule = rate === undefined ? undefined : createSchedule({ devices: logins.length, rate, durationMs, random })
  const expectedPerDevice = schedule === undefined ? 1024 : Math.ceil(schedule.total / logins.length)
  const outbox = new Outbox({ devices: logins.length, expectedPerDevice, payloads, clock })
  const common = { host, port, logins, outbox, random }
  await using transport: Transport =
    protocol === 'http'
      ? createHttpFleet(common)
      : createMqttFleet({
          ...common,
          qos,
          protocolVersion: options.protocolVersion,
          ...(options.maxInFlight !== undefined && { maxInFlight: options.maxInFlight }),
        })
  await transport.start(options.connectMs)

  const fromUs = clock.nowUs()
  const endProgress = options.progress && showProgress(options.progress, { outbox, transport, rate })
  const limits = { drainMs: protocol === 'mqtt' && qos === 0 ? 0 : options.drainMs, signal: options.signal }
  options.onPhase?.('sending')
  let pace: PaceResult
  try {
    pace =
      schedule === undefined
        ? await runClosedLoop(durationMs, transport, outbox, limits)
        : await runOpenLoop(schedule, transport, outbox, () => clock.nowUs(), limits)
  } finally {
    endProgress?.()
  }
  options.onPhase?.('answered')
  await transport.close()
  const names = logins.map(({ device }) => device)
  const stored =
    pool === undefined || deviceIds === undefined
      ? undefined
      : await compareStored(pool, { journal: outbox.journal, payloads, names, deviceIds, fromUs }, options, outbox)
  return reportOf(options, outbox, pace, stored)
}

async function compareStored(
  pool: Pool,
  sent: SentByFleet,
  options: SimulateOptions,
  { tally }: Outbox,
): Promise<StoredReport> {
  const totals = sent.journal.totals()
  const unanswered = options.protocol === 'mqtt' && options.qos === 0
  const trouble = unanswered || tally.resent > 0 || totals.sent > totals.acknowledged
  const settling = await waitForRows(pool, sent, {
    wanted: unanswered ? totals.sent : totals.acknowledged,
    calmMs: trouble ? calmAfterTroubleMs : calmMs,
    quietMs: unanswered ? calmAfterTroubleMs : Math.min(15_000, options.settleMs),
    timeoutMs: options.settleMs,
  })
  options.onPhase?.('settled')
  const comparison = await compareRows(pool, sent)
  return { ...comparison, storedAtEnd: settling.storedAtEnd, settledAfterMs: settling.settledAfterMs }
}

function reportOf(
  options: SimulateOptions,
  { journal, tally }: Outbox,
  pace: PaceResult,
  stored: StoredReport | undefined,
): Report {
  const { due, sent, acknowledged, refused } = journal.totals()
  const paceMs = tally.paceMs()
  return {
    runId: options.runId,
    protocol: options.protocol,
    url: `${options.protocol}://${options.host}:${options.port}`,
    devices: options.logins.length,
    seed: options.seed,
    rate: { asked: options.rate ?? null, reached: (sent * 1000) / pace.durationMs },
    durationMs: pace.durationMs,
    stopped: pace.stopped,
    due,
    sent,
    acked: acknowledged,
    refused,
    unacked: due - acknowledged - refused,
    refusals: Object.fromEntries(tally.refusals),
    connectionErrors: Object.fromEntries(tally.connectionErrors),
    reconnects: tally.reconnects,
    resent: tally.resent,
    ackMs: tally.ackMs(),
    self: {
      cpuUsPerMessage: sent === 0 ? 0 : pace.cpuUs / sent,
      paceMs,
      keptPace: paceMs === null || paceMs.p99 <= paceToleranceMs,
    },
    compared: stored !== undefined,
    ...stored,
    ok: stored === undefined || (stored.missing === 0 && stored.doubled === 0 && stored.misplaced === 0),
  }
}
