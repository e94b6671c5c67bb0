import { Command, Option } from 'commander'
import {
  countLetters,
  type LetterFilter,
  type LetterState,
  listLetters,
  purgeLetters,
  showLetter,
} from '#gateway/admin/registry/dead-letters.ts'
import type { ReplayAnswer } from '#gateway/admin/replay-letters.ts'
import { BridgeError } from '#platform/errors.ts'
import { adminApi } from './admin-api.ts'
import { hexDump } from './hex-dump.ts'
import { whole } from './options.ts'
import { print, printJson, table } from './output.ts'
import { byUser } from './registry.ts'
import { withRegistry } from './with-registry.ts'

export function createDeadLettersCommand(): Command {
  const letters = new Command('dead-letters').description(
    'messages that could not become rows, with their bytes: look at them, replay them, delete them',
  )
  withFilter(letters.command('list'))
    .description('list dead letters, the newest first, without their bytes')
    .addOption(stateOption('waiting'))
    .option('--codes', 'how many there are of each code, instead')
    .option('--limit <n>', 'at most so many', whole(1, 100_000), 100)
    .option('--after <id>', 'only those after this one: the next page')
    .option('--json', 'print an array')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge dead-letters list --since 2h\n  $ npx fleetbridge dead-letters list --codes --json\n  $ npx fleetbridge dead-letters list --device pump-1 --code malformed',
    )
    .action(list)
  letters
    .command('show')
    .description('show a dead letter with its bytes as text and hex. They are what a device sent, and may hold secrets')
    .argument('<id>', 'its id, as list and the answer to its sender name it')
    .option('--raw', 'write its bytes, and nothing else')
    .option('--json', 'print an object, with the bytes as text and in base64')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge dead-letters show 01a20a68-7263-7c2c-bac8-b3d90ac07467\n  $ npx fleetbridge dead-letters show 01a20a68-7263-7c2c-bac8-b3d90ac07467 --raw > payload.bin',
    )
    .action(show)
  withFilter(letters.command('replay'))
    .description(
      'send those that wait down the path of a running gateway once more, the oldest first; what fails again stays, with its newest reason. Safe to run twice',
    )
    .argument('[ids...]', 'only these')
    .option('--all', 'all that wait; needed where nothing else says which')
    .option('--dry-run', 'only say what would become of them')
    .option(
      '--admin <url>',
      'the admin API of a gateway; that of the running instance when absent. BRIDGE_ADMIN_TOKEN opens it',
    )
    .option('--json', 'print {"letters","stored","duplicate","ignored","parked","pending","reasons"}')
    .addHelpText(
      'after',
      '\nEnds with 1 when some stay parked.\n\nExamples:\n  $ npx fleetbridge dead-letters replay --code malformed --since 2h --dry-run\n  $ npx fleetbridge dead-letters replay --all',
    )
    .action(replay)
  withFilter(letters.command('purge'))
    .description('delete dead letters with their bytes')
    .argument('[ids...]', 'only these')
    .addOption(stateOption('all'))
    .option('--all', 'all of them; needed where nothing else says which')
    .option('--dry-run', 'only say how many')
    .option('--json', 'print {"purged"}')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge dead-letters purge --state replayed --until 7d\n  $ npx fleetbridge dead-letters purge --device pump-1 --dry-run',
    )
    .action(purge)
  return letters
}

interface FilterFlags {
  readonly tenant?: string
  readonly device?: string
  readonly code?: string
  readonly topic?: string
  readonly since?: string
  readonly until?: string
}

function withFilter(command: Command): Command {
  return command
    .option('--tenant <name>', 'only those of this tenant')
    .option('--device <id>', 'only those of this device')
    .option('--code <code>', 'only those with this code (docs/errors.md)')
    .option('--topic <topic>', 'only those of this topic or path; with * at its end, all that begin so')
    .option('--since <time>', 'that arrived then or later: 2h ago, or a time such as 2030-01-31T12:00:00Z')
    .option('--until <time>', 'that arrived before then')
}

function stateOption(initial: LetterState): Option {
  return new Option('--state <state>', 'those that wait, that were replayed, or all')
    .choices(['waiting', 'replayed', 'all'])
    .default(initial)
}

function filterOf(
  { tenant, device, code, topic, since, until }: FilterFlags,
  ids: readonly string[] = [],
): LetterFilter {
  return { tenant, device, code, topic, since, until, ids: ids.length === 0 ? undefined : ids }
}

interface ListFlags extends FilterFlags {
  readonly state: LetterState
  readonly codes?: true
  readonly limit: number
  readonly after?: string
  readonly json?: true
}

async function list({ codes, state, limit, after, json, ...flags }: ListFlags): Promise<void> {
  const filter = filterOf(flags)
  if (codes) {
    const rows = await withRegistry((client) => countLetters(client, filter, state))
    if (json) return await printJson(rows)
    return await print(
      table(
        ['code', 'letters', 'bytes'],
        rows.map(({ code, letters, bytes }) => [code, letters, bytes]),
      ),
    )
  }
  const rows = await withRegistry((client) => listLetters(client, filter, { limit, after, state }))
  if (json) return await printJson(rows)
  await print(
    table(
      ['id', 'arrived', 'tenant', 'device', 'code', 'bytes', 'replayed', 'topic', 'message'],
      rows.map(({ id, arrived, tenant, device, code, bytes, outcome, topic, message }) => [
        id,
        arrived,
        tenant,
        device,
        code,
        bytes,
        outcome,
        topic,
        message.slice(0, 80),
      ]),
    ),
  )
}

async function show(id: string, { raw, json }: { raw?: true; json?: true }): Promise<void> {
  const { payload, ...letter } = await withRegistry((client) => showLetter(client, id))
  if (raw) {
    if (payload === null) throw new BridgeError('BRIDGE_USAGE', 'its bytes were not kept')
    await new Promise<void>((done) => process.stdout.write(payload, () => done()))
    return
  }
  if (json)
    return await printJson({
      ...letter,
      text: payload?.toString() ?? null,
      base64: payload?.toString('base64') ?? null,
    })
  await print(table(['dead letter', ''], Object.entries(letter)))
  await print(payload === null ? '\nits bytes were not kept' : `\n${hexDump(payload)}`)
}

interface ReplayFlags extends FilterFlags {
  readonly all?: boolean
  readonly dryRun?: boolean
  readonly admin?: string
  readonly json?: true
}

type Total = Omit<ReplayAnswer, 'next'>

async function replay(ids: readonly string[], { all, dryRun = false, admin, json, ...flags }: ReplayFlags) {
  const filter = filterOf(flags, ids)
  if (all === undefined && Object.values(filter).every((part) => part === undefined))
    throw new BridgeError('BRIDGE_USAGE', 'name which to replay (a device, code, topic, time or ids), or --all')
  const api = adminApi(admin)
  const total = { letters: 0, stored: 0, duplicate: 0, ignored: 0, parked: 0, pending: 0 }
  const reasons = new Map<string, Total['reasons'][number]>()
  for (let after: string | null = null; ; ) {
    const page: ReplayAnswer = await api.post('/dead-letters/replay', {
      ...JSON.parse(JSON.stringify(filter)),
      dryRun,
      ...(after !== null && { after }),
    })
    for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += page[name]
    for (const reason of page.reasons) {
      const letters = (reasons.get(reason.code)?.letters ?? 0) + reason.letters
      reasons.set(reason.code, { ...reason, letters })
    }
    after = page.next
    if (after === null) break
  }
  if (total.parked > 0) process.exitCode = 1
  if (json) return await printJson({ ...total, reasons: [...reasons.values()] })
  const { letters, stored, duplicate, ignored, parked, pending } = total
  await print(
    dryRun
      ? `${letters} looked at: ${stored} could be read, ${ignored} hold no reading, ${parked} would stay parked`
      : `${letters} replayed: ${stored} stored, ${duplicate} stored before, ${ignored} without a reading, ${parked} still parked` +
          (pending > 0 ? `, ${pending} in the event log: the worker has yet to write them` : ''),
  )
  for (const { code, message, letters } of reasons.values()) await print(`  ${letters} × ${code}: ${message}`)
}

interface PurgeFlags extends FilterFlags {
  readonly state: LetterState
  readonly all?: boolean
  readonly dryRun?: boolean
  readonly json?: true
}

async function purge(ids: readonly string[], { state, all = false, dryRun = false, json, ...flags }: PurgeFlags) {
  const filter = filterOf(flags, ids)
  const purged = await withRegistry((client) => purgeLetters(client, byUser, filter, { state, dryRun, all }))
  if (json) await printJson({ purged })
  else await print(dryRun ? `${purged} would be deleted` : `${purged} deleted`)
}
