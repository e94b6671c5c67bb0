import type { Scalar } from './codec.ts'
import type { CodecContext } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { quoted } from './quote.ts'
import { believed } from './time.ts'

/** Microseconds of one step of a timestamp; nanoseconds, the default, are 0. */
const precisions = new Map([
  ['', 0],
  ['ns', 0],
  ['n', 0],
  ['us', 1],
  ['u', 1],
  ['ms', 1e3],
  ['s', 1e6],
  ['m', 60e6],
  ['h', 3600e6],
])

/**
 * What timestamps count, by the query of the request, else by the route.
 * @throws {DecodeError} `unsupported`
 */
export function unitOfPrecision({ transport, topic, options }: CodecContext): number {
  const query = transport === 'http' ? topic.indexOf('?') : -1
  // The lines of a request all ask, and most have none; a name may be percent-encoded.
  const asks = query >= 0 && (topic.includes('precision') || topic.includes('%'))
  const asked = asks ? new URLSearchParams(topic.slice(query)).get('precision') : null
  const precision = asked ?? options?.precision ?? ''
  const unit = precisions.get(precision)
  if (unit === undefined)
    throw new DecodeError('unsupported', `precision ${quoted(precision)} is none of ns, us, ms, s, m, h`)
  return unit
}

const wholeNumber = /^-?\d+$/

/**
 * The nearest whole microsecond. Nanoseconds have more digits than a double can hold, so they are cut as text: one rounding, not two.
 * @returns undefined when there is none, or it shows a clock that was not set
 * @throws {DecodeError} `bad_time`
 */
export function timestampUs(text: string, unit: number): number | undefined {
  if (text === '') return undefined
  if (!wholeNumber.test(text)) throw new DecodeError('bad_time', `timestamp ${quoted(text)} is no whole number`)
  if (text.startsWith('-')) return undefined // before 1970
  if (unit > 0) return believed(Number(text) * unit)
  return believed(Number(text.slice(0, -3)) + (Number(text.slice(-3)) >= 500 ? 1 : 0))
}

const booleans = new Map([
  ...['t', 'T', 'true', 'True', 'TRUE'].map((word) => [word, true] as const),
  ...['f', 'F', 'false', 'False', 'FALSE'].map((word) => [word, false] as const),
])
const float = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/
const integer = /^[+-]?\d+[iu]$/
const notFinite = /^[+-]?(nan|inf|infinity)$/i

/**
 * The value of a field that is no quoted text.
 * @throws {DecodeError} `bad_value` for what is out of range, `malformed` for what is no value
 */
export function fieldValue(token: string): Scalar {
  const flag = booleans.get(token)
  if (flag !== undefined) return flag
  if (float.test(token)) return finite(token)
  if (integer.test(token)) return wholeValue(token)
  if (notFinite.test(token)) throw new DecodeError('bad_value', `${quoted(token)} is no finite number`)
  throw new DecodeError('malformed', `${quoted(token)} is no value of a field`)
}

function finite(token: string): number {
  const number = Number(token)
  if (!Number.isFinite(number)) throw new DecodeError('bad_value', `${quoted(token)} is too large for a double`)
  return number
}

/** More digits than any 64-bit number has, zeros in front apart: BigInt takes longer than linear time for long ones. */
const maxDigits = 20

/** `i` is int64, `u` is uint64; what a double cannot hold exactly becomes text. */
function wholeValue(token: string): Scalar {
  const number = Number(token.slice(0, -1))
  if (Number.isSafeInteger(number)) {
    if (number < 0 && token.endsWith('u')) throw outOfRange(token)
    return number
  }
  const isNegative = token.startsWith('-')
  const digits = token.slice(0, -1).replace(/^[+-]?0*/, '')
  if (digits.length > maxDigits) throw outOfRange(token)
  const exact = isNegative ? -BigInt(digits) : BigInt(digits)
  const fits = token.endsWith('u') ? BigInt.asUintN(64, exact) === exact : BigInt.asIntN(64, exact) === exact
  if (!fits) throw outOfRange(token)
  return String(exact)
}

function outOfRange(token: string): DecodeError {
  return new DecodeError('bad_value', `${quoted(token)} does not fit 64 bits`)
}
