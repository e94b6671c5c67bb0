import { Command } from 'commander'
import pg from 'pg'
import { checkDeviceId, checkTenantName } from '#gateway/admin/registry/names.ts'
import {
  aliasesOfTenant,
  type KeptFilter,
  keptMessages,
  type RedecodeRun,
  replaceReadings,
} from '#gateway/admin/registry/raw-messages.ts'
import { momentOf } from '#gateway/admin/registry/times.ts'
import { createDecoderOfOld } from '#gateway/redecode/decode-again.ts'
import { readTable } from '#gateway/routes/live-routes.ts'
import { BridgeError } from '#platform/errors.ts'
import type { Reading } from '#schema/telemetry-event.ts'
import { whole } from './options.ts'
import { print, printJson, table } from './output.ts'
import { byUser } from './registry.ts'
import { withRegistry } from './with-registry.ts'

interface Flags {
  readonly device: string
  readonly tenant: string
  readonly from: string
  readonly to?: string
  readonly routes?: string
  readonly show: number
  readonly dryRun?: true
  readonly json?: true
}

export function createRedecodeCommand(): Command {
  return new Command('redecode')
    .description(
      "decode a device's messages again by today's rules, and replace what they became; for routes with keepRaw",
    )
    .requiredOption('--device <id>', 'whose messages')
    .option('--tenant <name>', 'whose device', 'default')
    .requiredOption('--from <time>', 'that arrived then or later: 2h ago, or a time such as 2030-01-31T12:00:00Z')
    .option('--to <time>', 'that arrived before then; now when absent')
    .option('--routes <file>', 'a route table as in fleetbridge.yaml; absent: that of the configuration')
    .option('--show <count>', 'differences that are shown', whole(0, 10_000), 20)
    .option('--dry-run', 'only show the differences')
    .option('--json', 'print {"messages","same","different","failed","removed","added","differences","reasons"}')
    .addHelpText(
      'after',
      `
Examples:
  $ npx fleetbridge redecode --device pump-1 --from 2d --dry-run
  $ npx fleetbridge redecode --device pump-1 --from 2d

Each message is replaced whole or not at all; what cannot be read stays as it is, and the command ends with 1. Rollups follow (docs/routes.md).`,
    )
    .action(redecode)
}

interface Difference {
  readonly arrived: string
  readonly change: '-' | '+'
  readonly metric: string
  readonly unit: string | null
  readonly time: string
  readonly value: number | string | boolean | null
}

async function redecode({ device, tenant, from, to, routes, show, dryRun, json }: Flags): Promise<void> {
  checkDeviceId(device)
  checkTenantName(tenant)
  const filter: KeptFilter = {
    tenant,
    device,
    from: momentOf(from, 'the time from when'),
    to: to === undefined ? new Date() : momentOf(to, 'the time until when'),
  }
  const rules = await readTable(process.env, routes)
  const counts = { messages: 0, same: 0, different: 0, failed: 0, removed: 0, added: 0 }
  const differences: Difference[] = []
  const reasons = new Map<string, { code: string; message: string; messages: number }>()
  const fail = (code: string, message: string) => {
    counts.failed++
    const reason = reasons.get(code) ?? { code, message, messages: 0 }
    reason.messages++
    reasons.set(code, reason)
  }
  await withRegistry(async (client) => {
    const decode = createDecoderOfOld({ tenant, device, routes: rules, aliases: await aliasesOfTenant(client, tenant) })
    const run: RedecodeRun = { filter, messages: 0, removed: 0, added: 0 }
    for await (const messages of keptMessages(client, filter))
      for (const message of messages) {
        counts.messages++
        const again = decode(message)
        if (again.kind === 'same') counts.same++
        else if (again.kind === 'failed') fail(again.code, again.message)
        else {
          try {
            if (!dryRun && !(await withRetries(() => replaceReadings(client, byUser, run, { message, ...again })))) {
              fail('conflict', 'somebody else decoded it again just now')
              continue
            }
          } catch (error) {
            if (!isWithoutPartition(error)) throw error
            fail('too_old', 'there is no partition for one of its new times')
            continue
          }
          counts.different++
          counts.removed += again.removed.length
          counts.added += again.added.length
          const arrived = isoOf(message.ingestTimeUs)
          for (const [change, readings] of [
            ['-', again.removed],
            ['+', again.added],
          ] as const)
            for (const reading of readings)
              if (differences.length < show) differences.push(differenceOf(arrived, change, reading))
        }
      }
  })
  if (counts.failed > 0) process.exitCode = 1
  if (json) return await printJson({ ...counts, differences, reasons: [...reasons.values()] })
  if (differences.length > 0)
    await print(
      `${table(
        ['', 'metric', 'unit', 'value', 'time', 'arrived'],
        differences.map(({ change, metric, unit, value, time, arrived }) => [
          change,
          metric,
          unit,
          value,
          time,
          arrived,
        ]),
      )}\n`,
    )
  const { messages, same, different, failed, removed, added } = counts
  await print(
    `${messages} messages with their bytes: ${same} as before, ${different} ${dryRun ? 'would change' : 'changed'} ` +
      `(${removed} readings out, ${added} in), ${failed} left as they are`,
  )
  for (const { code, message, messages } of reasons.values()) await print(`  ${messages} × ${code}: ${message}`)
}

const maxTries = 5

/** The worker writes the same rows at the same moment. */
async function withRetries<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work()
    } catch (error) {
      const cause = error instanceof BridgeError ? error.cause : error
      const isConflict = cause instanceof pg.DatabaseError && ['23505', '40P01', '40001'].includes(cause.code ?? '')
      if (!isConflict || tries === maxTries) throw error
    }
  }
}

function isWithoutPartition(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '23514' && /no partition/.test(error.message)
}

function differenceOf(arrived: string, change: '-' | '+', reading: Reading): Difference {
  const { metric, unit = null, value, text, flag, eventTimeUs } = reading
  return { arrived, change, metric, unit, time: isoOf(eventTimeUs), value: value ?? text ?? flag ?? null }
}

const isoOf = (us: number) => new Date(us / 1000).toISOString()
