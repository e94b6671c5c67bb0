import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import type pg from 'pg'
import { type DeviceCsv, type RejectedLine, readDeviceCsv } from '#gateway/admin/registry/device-csv.ts'
import { type ImportedBatch, importBatch } from '#gateway/admin/registry/import-devices.ts'
import { refusalReason } from '#gateway/admin/registry/refusal.ts'
import { durationMs } from '#gateway/admin/registry/times.ts'
import { BridgeError } from '#platform/errors.ts'
import { csvLine } from '../csv.ts'
import { printJson } from '../output.ts'
import { byUser } from '../registry.ts'
import { withRegistry } from '../with-registry.ts'
import { type LineSink, openPrivateFile, streamSink } from './private-file.ts'

export interface ImportFlags {
  readonly tenant: string
  readonly out?: string
  readonly rejects?: string
  readonly renew?: true
  readonly overlap: string
  readonly json?: true
}

interface Counts {
  added: number
  renewed: number
  skipped: number
  rejected: number
}

/** Ends with 0 when every line is a device now, 1 when lines were rejected, 2 when nothing could be read, 130 after Ctrl-C. */
export async function importDevices(file: string, flags: ImportFlags): Promise<void> {
  if (flags.json && flags.out === undefined)
    throw new BridgeError('BRIDGE_USAGE', '--json prints the counts, so --out must name a file for the tokens')
  const options = { renew: flags.renew === true, overlapMs: durationMs(flags.overlap, '--overlap') }
  const csv = await readDeviceCsv(await inputOf(file), flags.tenant)
  if (csv.ignored.length > 0)
    process.stderr.write(`columns without a meaning here, ignored: ${JSON.stringify(csv.ignored).slice(1, -1)}\n`)
  await withRegistry(async (client) => {
    await using tokens = await tokenSink(csv, flags)
    await using rejects = await rejectSink(flags)
    await run(client, { csv, options, tokens, rejects, json: flags.json })
  })
}

interface Run {
  readonly csv: DeviceCsv
  readonly options: { readonly renew: boolean; readonly overlapMs: number }
  readonly tokens: LineSink
  readonly rejects: LineSink
  readonly json: true | undefined
}

async function run(client: pg.Client, { csv, options, tokens, rejects, json }: Run): Promise<void> {
  const startMs = performance.now()
  const counts: Counts = { added: 0, renewed: 0, skipped: 0, rejected: 0 }
  const progress = new Progress(counts, startMs)
  // Between two batches, so that no token is made and not shown.
  let interrupted = false
  const onInterrupt = () => {
    interrupted = true
  }
  process.once('SIGINT', onInterrupt).once('SIGTERM', onInterrupt)
  try {
    for await (const { rows, rejected } of csv.batches) {
      const batch = await importBatch(client, byUser, rows, options)
      counts.added += batch.added.length
      counts.renewed += batch.renewed.length
      counts.skipped += batch.skipped
      counts.rejected += rejected.length + batch.rejected.length
      await tokens.write(tokenLines(batch, csv.namesTenants))
      const all = [...rejected, ...batch.rejected].sort((one, other) => one.line - other.line)
      await rejects.write(all.map(rejectLine))
      progress.step()
      if (interrupted) break
    }
  } catch (error) {
    progress.end()
    if (refusalReason(error) === undefined)
      process.stderr.write(
        `stopped after ${inWords(counts)}. Run the same command again: what is there is skipped, and --renew makes new tokens for it.\n`,
      )
    throw error
  } finally {
    process.off('SIGINT', onInterrupt).off('SIGTERM', onInterrupt)
  }
  progress.end()
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
  if (json) await printJson({ ...counts, interrupted })
  process.stderr.write(`${inWords(counts)}, in ${seconds} s\n`)
  if (interrupted) process.stderr.write('interrupted: run the same command again to add the rest\n')
  if (interrupted) process.exitCode = 130
  else if (counts.rejected > 0) process.exitCode = 1
}

async function inputOf(file: string): Promise<Readable> {
  if (file === '-') return process.stdin
  const stream = createReadStream(file)
  await new Promise<void>((resolve, reject) => {
    stream.once('open', () => resolve())
    stream.once('error', (error) =>
      reject(new BridgeError('BRIDGE_USAGE', `${file} cannot be read: ${error.message}`, { cause: error })),
    )
  })
  return stream
}

async function tokenSink({ namesTenants }: DeviceCsv, { out }: ImportFlags): Promise<LineSink> {
  const header = namesTenants ? 'device,token,tenant' : 'device,token'
  if (out !== undefined) return await openPrivateFile(out, header)
  const sink = streamSink(process.stdout)
  await sink.write([header])
  return sink
}

async function rejectSink({ rejects }: ImportFlags): Promise<LineSink> {
  if (rejects === undefined) return streamSink(process.stderr)
  return await openPrivateFile(rejects, 'line,device,reason')
}

function tokenLines({ added, renewed }: ImportedBatch, namesTenants: boolean): string[] {
  return [...added, ...renewed].map(({ device, token, tenant }) =>
    csvLine(namesTenants ? [device, token, tenant] : [device, token]),
  )
}

function rejectLine({ line, device, reason }: RejectedLine): string {
  return csvLine([String(line), device.replace(/\p{Cc}/gu, '?'), reason])
}

function inWords({ added, renewed, skipped, rejected }: Counts): string {
  return `${added} added${renewed > 0 ? `, ${renewed} renewed` : ''}, ${skipped} were there already, ${rejected} rejected`
}

const progressMs = 200
const plainProgressMs = 2000

/** A line that is written over on a terminal; elsewhere a line now and then. On standard error: the tokens may go to standard output. */
class Progress {
  readonly #counts: Counts
  readonly #startMs: number
  readonly #isTerminal = process.stderr.isTTY === true
  #shownMs: number

  constructor(counts: Counts, startMs: number) {
    this.#counts = counts
    this.#startMs = startMs
    this.#shownMs = startMs
  }

  step(): void {
    const now = performance.now()
    if (now - this.#shownMs < (this.#isTerminal ? progressMs : plainProgressMs)) return
    this.#shownMs = now
    const { added, renewed, skipped, rejected } = this.#counts
    const perSecond = Math.round((added + renewed + skipped + rejected) / ((now - this.#startMs) / 1000))
    const text = `${inWords(this.#counts)} (${perSecond} a second)`
    process.stderr.write(this.#isTerminal ? `\r\u001b[K${text}` : `${text}\n`)
  }

  end(): void {
    if (this.#isTerminal) process.stderr.write('\r\u001b[K')
  }
}
