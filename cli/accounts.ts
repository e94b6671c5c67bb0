import type pg from 'pg'

/** What partitions of the event log became, from counts that were written with the rows, against what is there. */
export interface Accounts {
  /** From the beginning of this minute on, by the arrival of the messages; ISO. */
  readonly since: string
  readonly counted: Counts
  /** Rows of `reading` and of `dead_letter` that arrived since. */
  readonly rows: number
  readonly deadLetters: number
  readonly partitions: number
  /** What does not agree, for people. */
  readonly differences: readonly string[]
  /** Differences with a reason that is on record, such as a purge. */
  readonly explained: readonly string[]
  readonly ok: boolean
}

interface Counts {
  readonly stored: number
  readonly duplicate: number
  readonly parked: number
  readonly refused: number
  readonly letters: number
  readonly readings: number
}

interface PartitionRow {
  readonly stream: string
  readonly partition: number
  readonly next_offset: number
  readonly counted: number
  /** Undefined counts: a program that does not write all of them wrote last. */
  readonly is_counted: boolean
}

/** A day less than the retention keeps the minutes. */
export const longestMs = 13 * 86_400_000

/**
 * Checks the accounts of all partitions in one snapshot, so that writers may go on: every offset is a message that counts as stored, duplicate,
 * parked or refused; every counted reading is a row; every counted dead letter is there.
 */
export async function checkAccounts(client: pg.ClientBase, sinceMs: number): Promise<Accounts> {
  const since = new Date(Math.floor(sinceMs / 60_000) * 60_000).toISOString()
  const differences: string[] = []
  const explained: string[] = []
  await client.query('begin isolation level repeatable read read only')
  try {
    const partitions = await partitionsOf(client)
    for (const { stream, partition, next_offset: next, counted, is_counted: isCounted } of partitions) {
      const name = `${stream}/${partition}`
      if (!isCounted) explained.push(`${name} was last written by a worker of an older version, which counts less`)
      else if (next !== counted)
        differences.push(`${name} is at offset ${next}, and its counts come to ${counted}: ${missing(next - counted)}`)
    }
    const { counted, fromEventTime } = await countedSince(client, since)
    const rows = await rowsSince(client, since, fromEventTime)
    if (rows !== counted.readings) {
      const text = `${counted.readings} readings were counted since ${since}, and ${rows} rows are there: ${missing(counted.readings - rows)}`
      const reason = rows < counted.readings ? await shorterRetention(client, fromEventTime ?? since) : undefined
      if (reason === undefined) differences.push(text)
      else explained.push(`${text}; ${reason}`)
    }
    const deadLetters = await numberOf(client, 'select count(*) from dead_letter where ingest_time >= $1', [since])
    if (deadLetters !== counted.letters) {
      const text = `${counted.letters} dead letters were counted since ${since}, and ${deadLetters} are there: ${missing(counted.letters - deadLetters)}`
      const purged = await purgedSince(client, since)
      const isPurge = deadLetters < counted.letters && counted.letters - deadLetters <= purged
      if (isPurge) explained.push(`${text}; ${purged} were purged since (table audit)`)
      else differences.push(text)
    }
    const ok = differences.length === 0
    return { since, counted, rows, deadLetters, partitions: partitions.length, differences, explained, ok }
  } finally {
    await client.query('rollback')
  }
}

export function accountsText({ since, counted, rows, deadLetters, partitions, ...result }: Accounts): string {
  const { stored, duplicate, parked, refused, letters, readings } = counted
  return [
    `since ${since}, ${partitions} partition${partitions === 1 ? '' : 's'}`,
    `messages      ${stored} stored, ${duplicate} duplicates, ${parked} parked; ${refused} refused and kept`,
    `readings      ${readings} counted, ${rows} rows`,
    `dead letters  ${letters} counted, ${deadLetters} there`,
    ...result.explained.map((text) => `explained: ${text}`),
    ...result.differences.map((text) => `DIFFERENCE: ${text}`),
    result.ok ? 'the accounts agree' : 'the accounts do not agree',
  ].join('\n')
}

function missing(count: number): string {
  return count > 0 ? `${count} missing` : `${-count} too many`
}

async function partitionsOf(client: pg.ClientBase): Promise<PartitionRow[]> {
  const { rows } = await client.query<PartitionRow>(
    `select stream, partition, next_offset::float8, (stored + duplicate + parked + refused + skipped)::float8 as counted,
        counted_offset is not distinct from next_offset as is_counted
      from ingest_offset order by stream, partition`,
  )
  return rows
}

async function countedSince(
  client: pg.ClientBase,
  since: string,
): Promise<{ counted: Counts; fromEventTime: string | undefined }> {
  const sum = (column: string) => `coalesce(sum(${column}), 0)::float8 as ${column}`
  const { rows } = await client.query<Counts & { from: string | null }>(
    `select ${['stored', 'duplicate', 'parked', 'refused', 'letters', 'readings'].map(sum).join(', ')},
        min(from_event_time)::text as from
      from ingest_minute where minute >= $1`,
    [since],
  )
  const { from, ...counted } = rows[0] as Counts & { from: string | null }
  return { counted, fromEventTime: from ?? undefined }
}

/** The oldest event time that was counted leaves older ranges unread. */
async function rowsSince(client: pg.ClientBase, since: string, fromEventTime: string | undefined): Promise<number> {
  const oldest = 'event_time >= least($1::timestamptz, $2::timestamptz)'
  return await numberOf(client, `select count(*) from reading where ${oldest} and ingest_time >= $1`, [
    since,
    fromEventTime ?? since,
  ])
}

/** A tenant's own retention may have taken readings that arrived late. */
async function shorterRetention(client: pg.ClientBase, fromEventTime: string): Promise<string | undefined> {
  const { rows } = await client.query<{ name: string; days: number }>(
    `select t.name, t.retention_days as days from rollup_state s join tenant t on t.id = s.tenant_id
      where s.readings_from > $1 and t.retention_days is not null order by 1 limit 1`,
    [fromEventTime],
  )
  const [found] = rows
  return found === undefined
    ? undefined
    : `the tenant ${found.name} keeps ${found.days} days, and readings came that were older`
}

async function purgedSince(client: pg.ClientBase, since: string): Promise<number> {
  return await numberOf(
    client,
    `select coalesce(sum((details->>'letters')::bigint), 0) as count from audit where action = 'dead-letter.purge' and at >= $1`,
    [since],
  )
}

async function numberOf(client: pg.ClientBase, text: string, values: readonly unknown[]): Promise<number> {
  const { rows } = await client.query<{ count: string }>(text, [...values])
  return Number(rows[0]?.count ?? 0)
}
