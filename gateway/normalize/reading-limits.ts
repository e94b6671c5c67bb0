import { recordLimits } from '#schema/telemetry-record.ts'
import type { RawReading } from './codec.ts'
import { DecodeError } from './decode-error.ts'
import { quoted } from './quote.ts'

const { metricBytes, unitBytes, textBytes } = recordLimits

/**
 * What Postgres would refuse, or store as something else, whatever format it came in.
 * @throws {DecodeError} `bad_value`
 */
export function checkReading({ metric, value, unit }: RawReading): void {
  if (metric === '') throw new DecodeError('bad_value', 'a metric has no name')
  checkText(metric, metricBytes, 'the name of metric', metric)
  if (unit !== undefined) checkText(unit, unitBytes, 'the unit of', metric)
  if (typeof value === 'string') checkText(value, textBytes, 'the text of', metric)
  else if (typeof value === 'number' && !Number.isFinite(value))
    throw new DecodeError('bad_value', `${quoted(metric)} is no finite number`)
}

function checkText(text: string, maxBytes: number, what: string, metric: string): void {
  // Most are too short to need counting: a UTF-16 unit takes three bytes at most.
  if (text.length > maxBytes || (text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes))
    throw new DecodeError('bad_value', `${what} ${quoted(metric)} is longer than ${maxBytes} bytes`)
  if (!text.isWellFormed()) throw new DecodeError('bad_value', `${what} ${quoted(metric)} has half a surrogate pair`)
  if (text.includes('\0')) throw new DecodeError('bad_value', `${what} ${quoted(metric)} has U+0000`)
}
