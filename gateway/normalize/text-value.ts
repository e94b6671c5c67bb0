import type { Scalar } from './codec.ts'
import { DecodeError } from './decode-error.ts'
import { quoted } from './quote.ts'

const jsonNumber = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/
const notFinite = /^[+-]?(nan|inf|infinity)$/i
/** The longest word that means something is `-infinity`. */
const longestWord = 9

/**
 * The value of a plain text payload (trimmed, no object or array): a JSON number, true or false in any case, a quoted string's content, else
 * the text itself. `+5`, `007` and `0x1F` stay texts: what wrote them may not have meant a number.
 * @returns null for `null`, which gives no reading
 * @throws {DecodeError} `bad_value` for NaN, infinity and numbers too large for a double
 */
export function textValue(text: string): Scalar | null {
  const number = jsonNumberOf(text)
  if (number !== undefined) return number
  if (text.charCodeAt(0) === 0x22) return unquoted(text)
  if (text.length > longestWord) return text
  if (text === 'null') return null
  if (notFinite.test(text)) throw new DecodeError('bad_value', `${quoted(text)} is no finite number`)
  const word = text.toLowerCase()
  if (word === 'true') return true
  return word === 'false' ? false : text
}

/** The number, if the text is a JSON number and nothing else. */
export function jsonNumberOf(text: string): number | undefined {
  const first = text.charCodeAt(0)
  if (first !== 0x2d && !(first >= 0x30 && first <= 0x39)) return undefined
  if (!jsonNumber.test(text)) return undefined
  const number = Number(text)
  if (!Number.isFinite(number)) throw new DecodeError('bad_value', `${quoted(text)} is too large for a double`)
  return number
}

function unquoted(text: string): string {
  if (!text.endsWith('"')) return text
  try {
    return JSON.parse(text) as string // whatever starts with a quotation mark and parses is a string
  } catch {
    return text
  }
}
