import { BridgeError } from '#platform/errors.ts'
import { withDatabase } from '../database.ts'
import { BatchBuilder, type ImportBatch } from './batch.ts'
import { forgetState, type ImportState, readState, writeState } from './import-state.ts'
import { countNew, makeCredential, type Place, prepareDevices, revoke, settledMessages } from './place.ts'
import { Progress } from './progress.ts'
import { RejectsFile } from './rejects-file.ts'
import type { RowSource } from './row-source.ts'
import { Sender, type Sent } from './send.ts'
import { type ConvertOptions, convert } from './to-reading.ts'

export interface ImportRun {
  readonly file: string
  readonly fingerprint: string
  readonly mapping: string
  readonly convert: ConvertOptions
  readonly open: () => Promise<RowSource>
  readonly place: Place
  readonly statePath: string
  readonly rejectsPath: string
  readonly messageRows: number
  readonly parallel: number
  readonly signal: AbortSignal
  /** For words to a person. */
  readonly say: (line: string) => void
}

export interface ImportResult {
  readonly rows: number
  readonly readings: number
  /** Rows of `reading` that were not there before; null when they were not counted. */
  readonly new: number | null
  readonly duplicates: number | null
  readonly rejected: number
  readonly parked: number
  readonly empty: number
  readonly devices: number
  readonly seconds: number
  readonly interrupted: boolean
}

/** Below a gateway's 1 MiB and 10,000 messages a request. */
const bounds = { rows: 10_000, bytes: 655_360 }
/** A gateway hears of a new credential within 2 s. */
const newTokenMs = 10_000
const maxDevices = 1_000_000

/**
 * Sends the rows of a file that are not settled yet. What is acknowledged is written down beside the file before more is sent than `parallel`
 * batches, so whatever ends this process, the same run goes on.
 */
export async function runImport(run: ImportRun): Promise<ImportResult> {
  const { place, statePath, say } = run
  const startMs = performance.now()
  const found = await readState(statePath, { file: run.fingerprint, mapping: run.mapping })
  if (found !== undefined) say(`going on after ${found.rows} rows (${statePath}); --restart begins anew`)
  const state: ImportState = found ?? {
    version: 1,
    file: run.fingerprint,
    mapping: run.mapping,
    startedAt: new Date().toISOString(),
    rows: 0,
    readings: 0,
    rejected: 0,
    parked: 0,
    empty: 0,
    rejectsBytes: 0,
    credential: undefined,
    firstUs: Number.POSITIVE_INFINITY,
    lastUs: Number.NEGATIVE_INFINITY,
  }
  const devices = await allDevices(run)
  let credential: { readonly id: string; readonly token: string } | undefined
  let settledBefore = 0
  const { databaseUrl } = place
  if (databaseUrl !== undefined) {
    const { made, untold } = await prepareDevices(databaseUrl, place.tenant, devices)
    if (made > 0) say(`${made} new devices`)
    if (untold > 0)
      say(`${untold} devices have a type with identity: message: rows that were imported before become second rows`)
    settledBefore = await withDatabase(databaseUrl, settledMessages)
    credential = await makeCredential(databaseUrl, { tenant: place.tenant, old: state.credential })
    state.credential = credential.id
    await writeState(statePath, state)
  }
  let messages = 0
  try {
    messages = await sendAll(run, state, { token: place.token ?? (credential as { token: string }).token })
  } finally {
    if (databaseUrl !== undefined && credential !== undefined) {
      const { id } = credential
      await revoke(databaseUrl, id).then(
        () => (state.credential = undefined),
        () => say(`the credential ${id} of this import could not be revoked; it expires in 7 days`),
      )
    }
  }
  const interrupted = run.signal.aborted
  if (interrupted) await writeState(statePath, state)
  else await forgetState(statePath)
  const seconds = (performance.now() - startMs) / 1000
  const { rows, readings, rejected, parked, empty } = state
  const fresh =
    databaseUrl === undefined || interrupted || readings === 0
      ? null
      : ((await withDatabase(databaseUrl, (client) =>
          countNew(client, { tenant: place.tenant, devices, ...timesOf(state), since: state.startedAt }, async () => {
            return (await settledMessages(client)) - settledBefore >= messages
          }),
        )) ?? null)
  return {
    rows,
    readings,
    new: fresh,
    duplicates: fresh === null ? null : Math.max(0, readings - fresh),
    rejected,
    parked,
    empty,
    devices: devices.length,
    seconds: Math.round(seconds * 10) / 10,
    interrupted,
  }
}

const timesOf = ({ firstUs, lastUs }: ImportState) => ({ firstUs, lastUs })

/** Reads the file once: which devices it names. */
async function allDevices({ open, convert: options, signal }: ImportRun): Promise<string[]> {
  const devices = new Set<string>()
  const source = await open()
  const progress = new Progress()
  let rows = 0
  try {
    for await (const some of source.rows) {
      for (const row of some) {
        const converted = convert(row, options)
        if (converted.kind === 'reading') devices.add(converted.device)
      }
      rows += some.length
      if (devices.size > maxDevices)
        throw new BridgeError('BRIDGE_USAGE', `a file may name ${maxDevices} devices; split it`)
      const { bytes, of } = source.progress()
      progress.step('looked at', rows, of === 0 ? 1 : bytes / of)
      if (signal.aborted) break
    }
  } finally {
    progress.end()
    source.close()
  }
  return [...devices]
}

interface InFlight {
  readonly batch: ImportBatch
  readonly sent: Promise<Sent>
  readonly fraction: number
}

/** @returns messages that were acknowledged */
async function sendAll(run: ImportRun, state: ImportState, { token }: { token: string }): Promise<number> {
  const { signal, place } = run
  const source = await run.open()
  const rejects = new RejectsFile(run.rejectsPath, source.columns, state.rejectsBytes)
  const progress = new Progress({ rows: state.rows, fraction: 0 })
  let waitedMs = 0
  const sender = new Sender({
    url: place.url,
    token,
    newTokenMs: place.token === undefined ? newTokenMs : 0,
    signal,
    onWait: (ms) => (waitedMs += ms),
  })
  let messages = 0
  const settle = async ({ batch, sent, fraction }: InFlight) => {
    const { readings, parked } = await sent
    const lost = parked.flatMap(({ message, reason }) => message.rows.map(({ row }) => ({ row, reason })))
    const rejected = [...batch.rejected, ...lost].sort((one, other) => one.row.line - other.row.line)
    await rejects.write(rejected)
    state.rows += batch.rows
    state.empty += batch.empty
    state.readings += readings
    state.rejected += rejected.length
    state.parked += lost.length
    state.rejectsBytes = rejects.bytes
    for (const { rows } of batch.messages)
      for (const { reading } of rows) {
        state.firstUs = Math.min(state.firstUs, reading.timeUs)
        state.lastUs = Math.max(state.lastUs, reading.timeUs)
      }
    messages += batch.messages.length - parked.length
    await writeState(run.statePath, state)
    progress.step(
      'imported',
      state.rows,
      fraction,
      waitedMs > 1000 ? `, ${Math.round(waitedMs / 1000)} s held by limits` : '',
    )
  }
  const inFlight: InFlight[] = []
  try {
    for await (const { batch, fraction } of batches(run, source, state.rows)) {
      const sent =
        batch.messages.length === 0 ? Promise.resolve({ readings: 0, parked: [] }) : sender.send(batch.messages)
      sent.catch(() => undefined) // looked at in its turn
      inFlight.push({ batch, sent, fraction })
      if (inFlight.length >= run.parallel) await settle(inFlight.shift() as InFlight)
      if (signal.aborted) break
    }
    for (const one of inFlight.splice(0)) await settle(one)
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    progress.end()
    source.close()
    await rejects.close()
  }
  return messages
}

async function* batches(
  { convert: options, messageRows }: ImportRun,
  source: RowSource,
  skip: number,
): AsyncGenerator<{ batch: ImportBatch; fraction: number }> {
  const builder = new BatchBuilder({ ...bounds, messageRows })
  const taken = () => {
    const { bytes, of } = source.progress()
    return { batch: builder.take(), fraction: of === 0 ? 1 : bytes / of }
  }
  let seen = 0
  for await (const rows of source.rows)
    for (const row of rows) {
      if (++seen <= skip) continue
      builder.add(row, convert(row, options))
      if (builder.isFull) yield taken()
    }
  if (!builder.isEmpty) yield taken()
}
