import { timeOf, timeOfUnit } from '#gateway/normalize/time.ts'
import { BridgeError } from '#platform/errors.ts'

/** Reads the time of a row: whole microseconds since the epoch, or undefined when it cannot be one. */
export type ReadTime = (value: unknown) => number | undefined

const unitUs = new Map([
  ['s', 1e6],
  ['ms', 1e3],
  ['us', 1],
  ['ns', 1e-3],
])

/** A number by its size, digits likewise, or a date with time. */
export const autoFormat = 'auto'

/**
 * @param format `auto`, `s`, `ms`, `us`, `ns`, or a pattern of yyyy, MM, dd, HH, mm, ss and SSS, such as `dd.MM.yyyy HH:mm`
 * @param offsetMinutes of texts that name no zone
 * @throws BridgeError BRIDGE_USAGE for a pattern without year, month and day
 */
export function timeReader(format: string, offsetMinutes = 0): ReadTime {
  const unit = unitUs.get(format)
  if (unit !== undefined) return guarded((value) => timeOfUnit(value, unit))
  if (format === autoFormat)
    return guarded((value) => {
      const timeUs = timeOf(typeof value === 'string' ? dateOnly(value) : value)
      if (timeUs === undefined || offsetMinutes === 0 || typeof value !== 'string' || !isWithoutZone(value))
        return timeUs
      return timeUs - offsetMinutes * 60_000_000
    })
  return patternReader(format, offsetMinutes)
}

/** `+02:00`, `-05:30` or `Z` in minutes. @throws BridgeError BRIDGE_USAGE */
export function offsetMinutesOf(text: string): number {
  if (text === 'Z') return 0
  const [, sign, hours, minutes] = /^([+-])(\d\d):?(\d\d)$/.exec(text) ?? []
  if (hours === undefined || Number(hours) > 14 || Number(minutes) > 59)
    throw new BridgeError('BRIDGE_USAGE', `--utc-offset ${JSON.stringify(text.slice(0, 20))} is not such as +02:00`)
  return (Number(hours) * 60 + Number(minutes)) * (sign === '-' ? -1 : 1)
}

function guarded(read: ReadTime): ReadTime {
  return (value) => {
    try {
      return read(value)
    } catch {
      return undefined
    }
  }
}

const dateOnly = (text: string) => (/^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00` : text)
const isWithoutZone = (text: string) => /^\d{4}-\d\d-\d\d([T ][\d:.]+)?$/.test(text)

const parts = ['yyyy', 'MM', 'dd', 'HH', 'mm', 'ss', 'SSS'] as const

function patternReader(format: string, offsetMinutes: number): ReadTime {
  const order: string[] = []
  const source = format.replace(/yyyy|SSS|MM|dd|HH|mm|ss|[^A-Za-z]|[A-Za-z]/g, (piece) => {
    if ((parts as readonly string[]).includes(piece)) {
      order.push(piece)
      return piece === 'yyyy' ? '(\\d{4})' : piece === 'SSS' ? '(\\d{1,6})' : '(\\d{1,2})'
    }
    return piece.replace(/[^\w ]/g, '\\$&')
  })
  if (!['yyyy', 'MM', 'dd'].every((part) => order.includes(part)) || new Set(order).size !== order.length)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `--time-format ${JSON.stringify(format.slice(0, 60))} is neither auto, s, ms, us, ns nor a pattern with yyyy, MM and dd, such as "dd.MM.yyyy HH:mm:ss"`,
    )
  const pattern = new RegExp(`^${source}$`)
  return (value) => {
    const match = typeof value === 'string' ? pattern.exec(value) : null
    if (match === null) return undefined
    const part = (name: string) => (order.includes(name) ? match[order.indexOf(name) + 1] : undefined)
    const two = (name: string) => (part(name) ?? '0').padStart(2, '0')
    const fraction = part('SSS') ?? '0'
    const text = `${part('yyyy')}-${two('MM')}-${two('dd')}T${two('HH')}:${two('mm')}:${two('ss')}.${fraction}`
    try {
      const timeUs = timeOf(text)
      return timeUs === undefined ? undefined : timeUs - offsetMinutes * 60_000_000
    } catch {
      return undefined
    }
  }
}
