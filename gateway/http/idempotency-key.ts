import type { IncomingHttpHeaders } from 'node:http'

const form = /^(?:"([\x20\x21\x23-\x7e]{1,200})"|([\x21\x23-\x7e]{1,200}))$/

/**
 * The name that a client gives its request (draft-ietf-httpapi-idempotency-key-header): a structured-field string, or what many clients send, the same
 * without quotes.
 * @returns undefined without one, null for what is none
 */
export function idempotencyKey(headers: IncomingHttpHeaders): string | null | undefined {
  const value = headers['idempotency-key']
  if (value === undefined) return undefined
  // A repeated header comes as one text with a comma: two names are none.
  const match = typeof value === 'string' && value.length <= 202 ? form.exec(value.trim()) : null
  return match === null ? null : (match[1] ?? match[2])
}

/** Of several messages in one request each has the request's name and its place: the same request sent again has the same. */
export function itemKey(key: string, index: number, count: number): string {
  return count === 1 ? key : `${key}#${index}`
}
