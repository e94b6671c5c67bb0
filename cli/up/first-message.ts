import type { Store } from '#worker/store/store.ts'
import { withDatabase } from '../database.ts'
import { print, table } from '../output.ts'

type StoredSlices = Parameters<NonNullable<Store['onStored']>>[0]

/** A device that sends nothing else would fill the terminal. */
const maxParked = 5

/** Tells of the first message that becomes rows, and of some that were parked before it; then it is silent. */
export function firstMessageTeller(databaseUrl: string): NonNullable<Store['onStored']> {
  let told = false
  let parked = 0
  return (slices) => {
    if (told) return
    const nowUs = (performance.timeOrigin + performance.now()) * 1000
    const first = firstRecord(slices)
    if (first === undefined) return
    if ('deadLetter' in first) {
      if (++parked > maxParked) return
      const { device, code, message } = first.deadLetter
      void print(
        `\nparked: a message of ${JSON.stringify(device)}: ${code}, ${message} (its bytes are in the table dead_letter)`,
      )
      return
    }
    told = true
    const { event } = first
    const ms = Math.max(0, nowUs - event.ingestTimeUs) / 1000
    void tell(databaseUrl, event, ms).catch((error: unknown) =>
      print(`\nthe first message was stored; its row cannot be read: ${error}`),
    )
  }
}

type FirstRecord = Exclude<StoredSlices[number]['records'][number], { deviceEvent: unknown }>

function firstRecord(slices: StoredSlices): FirstRecord | undefined {
  for (const { records } of slices) for (const record of records) if (!('deviceEvent' in record)) return record
  return undefined
}

async function tell(
  databaseUrl: string,
  { tenant, device, source, readings }: Extract<FirstRecord, { event: unknown }>['event'],
  ms: number,
): Promise<void> {
  const times = readings.map(({ eventTimeUs }) => eventTimeUs)
  const { fields, rows } = await withDatabase(databaseUrl, (client) =>
    client.query<unknown[]>({
      text: `SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS"Z"') AS time, device, metric,
               coalesce(to_jsonb(value), to_jsonb(text), to_jsonb(flag)) AS value, unit
             FROM telemetry
             WHERE tenant = $1 AND device = $2 AND metric = ANY($5) AND time BETWEEN
               timestamptz 'epoch' + $3::float8 * interval '1 microsecond' AND timestamptz 'epoch' + $4::float8 * interval '1 microsecond'
             ORDER BY telemetry.time, metric LIMIT 10`,
      values: [tenant, device, Math.min(...times), Math.max(...times), readings.map(({ metric }) => metric)],
      rowMode: 'array',
    } as never),
  )
  const took = `${ms.toFixed(1)} ms after it arrived`
  const said =
    rows.length === 0 ? 'is a duplicate of what is stored' : rows.length === 1 ? 'is a row' : `is ${rows.length} rows`
  await print(`\nthe first message, by ${source.toUpperCase()}, ${said}, ${took}:\n`)
  if (rows.length > 0)
    await print(
      table(
        fields.map(({ name }) => name),
        rows,
      ),
    )
}
