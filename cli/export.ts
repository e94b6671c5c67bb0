import { createWriteStream } from 'node:fs'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream as WebStream } from 'node:stream/web'
import { createGzip } from 'node:zlib'
import { Command, Option } from 'commander'
import { BridgeError } from '#platform/errors.ts'
import { adminApi } from './admin-api.ts'
import { whole } from './options.ts'

interface Flags {
  readonly device?: string
  readonly prefix?: string
  readonly metric?: string
  readonly from?: string
  readonly to?: string
  readonly tenant?: string
  readonly format?: 'csv' | 'ndjson'
  readonly limit?: number
  readonly out?: string
  readonly admin?: string
}

export function createExportCommand(): Command {
  return new Command('export')
    .description('write readings as CSV or NDJSON, as a running gateway reads them; fleetbridge import takes both')
    .option('--device <id>', 'only of this device')
    .option('--prefix <text>', 'only of devices whose ids begin so')
    .option('--metric <name>', 'only of this metric')
    .option('--from <time>', 'from then on: 7d ago, or a time such as 2030-01-31T12:00:00Z; a day ago when absent')
    .option('--to <time>', 'before then; now when absent')
    .option('--tenant <name>', "whose; default when absent, or the token's own")
    .addOption(new Option('--format <format>', 'csv, or as the name of --out says').choices(['csv', 'ndjson']))
    .option(
      '--limit <rows>',
      'so many at most; ten million when absent, and more than that is an error',
      whole(1, 999_999_999),
    )
    .option('--out <file>', 'where to; with .gz at its end, gzip. Standard output when absent')
    .option(
      '--admin <url>',
      'the admin API of a gateway; that of the running instance when absent. BRIDGE_ADMIN_TOKEN opens it',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge export --device pump-1 --from 7d > pump-1.csv\n  $ npx fleetbridge export --prefix pump- --out pumps.ndjson.gz',
    )
    .action(run)
}

async function run({ out, admin, format, limit, ...filter }: Flags): Promise<void> {
  const isNdjson = format === 'ndjson' || (format === undefined && /\.(ndjson|jsonl)(\.gz)?$/i.test(out ?? ''))
  const query = new URLSearchParams({
    ...filter,
    format: isNdjson ? 'ndjson' : 'csv',
    ...(limit !== undefined && { limit: String(limit) }),
  })
  const stop = new AbortController()
  const onInterrupt = () => stop.abort()
  process.once('SIGINT', onInterrupt).once('SIGTERM', onInterrupt)
  const body = await adminApi(admin).stream(`/export?${query}`, stop.signal)
  let lines = 0
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines++
      done(null, chunk)
    },
  })
  const target = out === undefined ? process.stdout : createWriteStream(out)
  const packing = out?.toLowerCase().endsWith('.gz') ? [createGzip()] : []
  try {
    await pipeline([Readable.fromWeb(body as unknown as WebStream), counted, ...packing, target])
  } catch (error) {
    if (stop.signal.aborted) process.exitCode = 130
    // Whoever reads has what it wanted, as `head` does.
    else if ((error as NodeJS.ErrnoException).code !== 'EPIPE')
      throw new BridgeError(
        'BRIDGE_USAGE',
        `the export broke off after ${lines} lines: ${(error as Error).message}. Take a shorter range.`,
        {
          cause: error,
        },
      )
    return
  } finally {
    process.off('SIGINT', onInterrupt).off('SIGTERM', onInterrupt)
  }
  process.stderr.write(`${isNdjson ? lines : Math.max(0, lines - 1)} readings\n`)
}
