import type { IncomingHttpHeaders } from 'node:http'
import type { CarriedHeaders } from '../ingress.ts'

/** What codecs ask for; nothing else of a request's head goes on with its messages. */
const names = [
  'ce-specversion',
  'ce-id',
  'ce-source',
  'ce-type',
  'ce-subject',
  'ce-time',
  'x-limit-u',
  'x-limit-d',
] as const

/** A longer one would be no id, time or device anyway; kept to this length it is refused as what it is. */
const maxLength = 1024

/** @returns undefined for nearly every request */
export function carriedHeaders(headers: IncomingHttpHeaders): CarriedHeaders | undefined {
  let carried: Map<string, string> | undefined
  for (const name of names) {
    const value = headers[name]
    if (typeof value !== 'string') continue
    carried ??= new Map()
    carried.set(name, utf8(value.slice(0, maxLength)))
  }
  return carried
}

const notAscii = /[\x80-\xff]/

/** Node reads heads as Latin-1; who writes other letters into one writes UTF-8. */
function utf8(value: string): string {
  if (!notAscii.test(value)) return value
  const text = Buffer.from(value, 'latin1').toString()
  return text.includes('\ufffd') ? value : text
}
