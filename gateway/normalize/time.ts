import { DecodeError } from './decode-error.ts'
import { quoted } from './quote.ts'

/** 2000-01-01T00:00:00Z and 2100-01-01T00:00:00Z: outside them a clock was never set. */
const firstBelievedUs = 946_684_800_000_000
const endOfBelievedUs = 4_102_444_800_000_000

const numberText = /^\d+(\.\d+)?$/

/**
 * A time field whose format fixes no unit: a number by its size, a text of digits likewise, or a date with time.
 * @returns whole microseconds since the epoch; undefined for null, `""` and a clock that was not set
 * @throws {DecodeError} `bad_time`
 */
export function timeOf(value: unknown): number | undefined {
  if (typeof value === 'number') return believed(unixUs(value))
  if (value === null || value === '') return undefined
  if (typeof value !== 'string') throw new DecodeError('bad_time', `a time cannot be ${kindOf(value)}`)
  const timeUs = numberText.test(value) ? unixUs(Number(value)) : textUs(value)
  if (Number.isNaN(timeUs)) throw new DecodeError('bad_time', `cannot read the time ${quoted(value)}`)
  return believed(timeUs)
}

/** As `timeOf`, for a field that may be missing. */
export function optionalTimeOf(value: unknown): number | undefined {
  return value === undefined ? undefined : timeOf(value)
}

/** A time field that is always milliseconds, and always a number. */
export function timeOfMilliseconds(value: unknown): number | undefined {
  if (value === null || value === undefined) return undefined
  if (typeof value !== 'number') throw new DecodeError('bad_time', `a time of milliseconds cannot be ${kindOf(value)}`)
  return believed(finite(value) * 1000)
}

/**
 * A time field whose format fixes the unit: a number, or a text of digits.
 * @param unitUs microseconds in one of it
 */
export function timeOfUnit(value: unknown, unitUs: number): number | undefined {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'number') return believed(finite(value) * unitUs)
  if (typeof value !== 'string') throw new DecodeError('bad_time', `a time cannot be ${kindOf(value)}`)
  if (!numberText.test(value)) throw new DecodeError('bad_time', `cannot read the time ${quoted(value)}`)
  return believed(finite(Number(value)) * unitUs)
}

/** A time field that is a date with time, or milliseconds. */
export function timeOfMillisecondsOrText(value: unknown): number | undefined {
  return typeof value === 'string' && !numberText.test(value) ? timeOf(value) : timeOfUnit(value, 1000)
}

/** A time that is told as seconds from a moment, before it if negative. */
export function offsetFrom(momentUs: number, seconds: number): number | undefined {
  return believed(momentUs + seconds * 1e6)
}

/** A date with time that says its zone; undefined for every other, and for what cannot be read. */
export function zonedTimeOf(value: unknown): number | undefined {
  if (typeof value !== 'string' || !zone.test(value.slice(zoneStart))) return undefined
  const timeUs = textUs(value)
  return Number.isNaN(timeUs) ? undefined : believed(timeUs)
}

/** The first place after `hh:mm:ss`. */
const zoneStart = 19
const zone = /(?:Z|[+-]\d\d:?\d\d)$/

/** A time of a clock that was set, in whole microseconds. */
export function believed(timeUs: number): number | undefined {
  const whole = Math.round(timeUs)
  return whole >= firstBelievedUs && whole < endOfBelievedUs ? whole : undefined
}

function unixUs(time: number): number {
  const size = Math.abs(finite(time))
  if (size < 1e11) return time * 1e6
  if (size < 1e14) return time * 1e3
  return size < 1e17 ? time : time / 1e3
}

function finite(time: number): number {
  if (!Number.isFinite(time)) throw new DecodeError('bad_value', 'a time is too large for a double')
  return time
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

/** `YYYY-MM-DD`, `T` or space, `hh:mm:ss`, optional fraction and zone; none is UTC. NaN for anything else, impossible dates included. */
function textUs(text: string): number {
  const year = digits(text, 0, 4)
  const month = digits(text, 5, 2)
  const day = digits(text, 8, 2)
  const hour = digits(text, 11, 2)
  const minute = digits(text, 14, 2)
  const second = digits(text, 17, 2)
  const between = text.charAt(10)
  const isShaped =
    text.charAt(4) === '-' &&
    text.charAt(7) === '-' &&
    (between === 'T' || between === ' ') &&
    text.charAt(13) === ':' &&
    text.charAt(16) === ':'
  const isPossible =
    month >= 1 && month <= 12 && day >= 1 && day <= daysOf(year, month) && hour < 24 && minute < 60 && second < 60
  if (!isShaped || !isPossible || year < 0 || hour < 0 || minute < 0 || second < 0) return Number.NaN

  let at = 19
  let fractionUs = 0
  if (text.charAt(at) === '.') {
    const start = ++at
    while (isDigit(text.charCodeAt(at))) at++
    if (at === start) return Number.NaN
    const cut = text.slice(start, Math.min(at, start + 6)) // more digits are cut, not rounded
    fractionUs = Number(cut.padEnd(6, '0'))
  }
  // Date.UTC reads years below 100 as 19xx; all these are before any clock was set.
  const ms = Date.UTC(Math.max(year, 1000), month - 1, day, hour, minute, second)
  return (ms - zoneMinutes(text, at) * 60_000) * 1000 + fractionUs
}

function zoneMinutes(text: string, at: number): number {
  if (at === text.length) return 0
  const sign = text.charAt(at)
  if (sign === 'Z') return at + 1 === text.length ? 0 : Number.NaN
  if (sign !== '+' && sign !== '-') return Number.NaN
  const minutesAt = text.charAt(at + 3) === ':' ? at + 4 : at + 3
  const hours = digits(text, at + 1, 2)
  const minutes = digits(text, minutesAt, 2)
  if (text.length !== minutesAt + 2 || hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return Number.NaN
  return (hours * 60 + minutes) * (sign === '-' ? -1 : 1)
}

/** The number written there, or -1. */
function digits(text: string, from: number, count: number): number {
  let number = 0
  for (let at = from; at < from + count; at++) {
    const code = text.charCodeAt(at)
    if (!isDigit(code)) return -1
    number = number * 10 + code - 0x30
  }
  return number
}

const isDigit = (code: number) => code >= 0x30 && code <= 0x39

const daysOfMonth = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

function daysOf(year: number, month: number): number {
  const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
  return month === 2 && isLeap ? 29 : (daysOfMonth[month - 1] ?? 0)
}
