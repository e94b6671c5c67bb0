import { BridgeError } from '#platform/errors.ts'

/** Which column says what. */
export interface Mapping {
  /** One device for all rows, or the column that names it. */
  readonly device: { readonly id: string } | { readonly column: string }
  readonly time: string
  /** Long form: a row is one reading, its metric named in a column; the first of `values` that is not empty counts. Wide: each of `values` is a metric. */
  readonly metric: string | undefined
  readonly values: readonly string[]
  /** Long form: the column with the unit. */
  readonly unit: string | undefined
}

export interface MappingFlags {
  readonly device?: string
  readonly deviceColumn?: string
  readonly timeColumn?: string
  readonly metricColumn?: string
  readonly valueColumns?: string
  readonly unitColumn?: string
}

const usual = {
  device: ['device', 'device_id', 'deviceid', 'device_name', 'sensor_id', 'sensorid', 'sensor', 'thing', 'entity_id'],
  time: ['time', 'timestamp', 'ts', 'datetime', 'date_time', 'event_time', 'eventtime', '_time', 'date'],
  metric: ['metric', 'measurement', 'parameter', 'variable', 'key', '_field', 'reading_type'],
  value: ['value', 'reading_value', '_value', 'text', 'flag'],
  unit: ['unit', 'units', 'uom'],
}
/** What our own export has beside. */
const ours = new Set(['clock', 'ingest_time', 'ingesttime', 'tenant'])

/**
 * Completes what the flags say by the names of the columns.
 * @returns with `guessed`: what no flag said
 * @throws BridgeError BRIDGE_USAGE that names the flag that is missing, or a column that is not there
 */
export function mappingOf(
  columns: readonly string[],
  flags: MappingFlags,
): { readonly mapping: Mapping; readonly guessed: readonly string[] } {
  const guessed: string[] = []
  const find = (names: readonly string[]) => {
    for (const name of names) {
      const column = columns.find((one) => one.toLowerCase() === name)
      if (column !== undefined) return column
    }
    return undefined
  }
  const pick = (flag: string, given: string | undefined, names: readonly string[]): string | undefined => {
    if (given !== undefined) return existing(columns, given, flag)
    const column = find(names)
    if (column !== undefined) guessed.push(`${flag} ${column}`)
    return column
  }
  if (flags.device !== undefined && flags.deviceColumn !== undefined)
    throw new BridgeError('BRIDGE_USAGE', '--device is for all rows, and --device-column for each: give one of them')
  const deviceColumn =
    flags.device === undefined ? pick('--device-column', flags.deviceColumn, usual.device) : undefined
  if (flags.device === undefined && deviceColumn === undefined)
    throw missing('which column names the device: --device-column NAME, or --device ID for all rows', columns)
  const time = pick('--time-column', flags.timeColumn, usual.time)
  if (time === undefined) throw missing('which column holds the time: --time-column NAME', columns)
  // A column named for a metric means the long form only when its value is there, too.
  const isLong =
    flags.metricColumn !== undefined || (find(usual.metric) !== undefined && find(usual.value) !== undefined)
  const metric = isLong ? pick('--metric-column', flags.metricColumn, usual.metric) : undefined
  const unit = metric === undefined ? undefined : pick('--unit-column', flags.unitColumn, usual.unit)
  if (flags.unitColumn !== undefined && metric === undefined)
    throw new BridgeError('BRIDGE_USAGE', '--unit-column goes with --metric-column; else say --unit METRIC=UNIT')
  return {
    mapping: {
      device: flags.device === undefined ? { column: deviceColumn as string } : { id: flags.device },
      time,
      metric,
      values: valuesOf(columns, flags.valueColumns, { taken: [deviceColumn, time, metric, unit], metric, guessed }),
      unit,
    },
    guessed,
  }
}

function valuesOf(
  columns: readonly string[],
  given: string | undefined,
  { taken, metric, guessed }: { taken: readonly (string | undefined)[]; metric: string | undefined; guessed: string[] },
): string[] {
  if (given !== undefined) return given.split(',').map((name) => existing(columns, name.trim(), '--value-columns'))
  const names =
    metric === undefined
      ? columns.filter((name) => name !== '' && !taken.includes(name) && !ours.has(name.toLowerCase()))
      : usual.value.flatMap((name) => columns.filter((column) => column.toLowerCase() === name))
  if (names.length === 0) throw missing('which columns hold values: --value-columns A,B', columns)
  guessed.push(`--value-columns ${names.join(',')}`)
  return names
}

function existing(columns: readonly string[], name: string, flag: string): string {
  if (columns.includes(name)) return name
  throw missing(`${flag} names ${JSON.stringify(name.slice(0, 80))}, which is not there`, columns)
}

function missing(what: string, columns: readonly string[]): BridgeError {
  const shown = columns.slice(0, 30).map((name) => JSON.stringify(name.slice(0, 60)))
  return new BridgeError('BRIDGE_USAGE', `${what}. The file has ${shown.join(', ')}${columns.length > 30 ? ', …' : ''}`)
}

/** The flags that say the same, to be kept with a command. */
export function mappingFlags({ device, time, metric, values, unit }: Mapping): string {
  const word = (text: string) => (/^[\w.,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)
  return [
    'id' in device ? `--device ${word(device.id)}` : `--device-column ${word(device.column)}`,
    `--time-column ${word(time)}`,
    ...(metric === undefined ? [] : [`--metric-column ${word(metric)}`]),
    `--value-columns ${word(values.join(','))}`,
    ...(unit === undefined ? [] : [`--unit-column ${word(unit)}`]),
  ].join(' ')
}
