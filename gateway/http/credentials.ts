/** What a request presents to say who it is. */
export interface Presented {
  readonly token: string | undefined
  readonly username: string | undefined
}

const nobody: Presented = { token: undefined, username: undefined }

/**
 * Reads `Bearer T`, `Token T` and `Basic base64(user:T)`; the scheme in any case (RFC 9110 §11.1). The user of Basic may be left out.
 * Anything else presents nothing.
 */
export function presentedBy(authorization: string | undefined): Presented {
  if (authorization === undefined) return nobody
  const space = authorization.indexOf(' ')
  if (space < 0) return nobody
  const rest = authorization.slice(space + 1).trim()
  const scheme = authorization.slice(0, space)
  // The words as clients write them come first: lower case costs a string.
  if (scheme === 'Bearer' || scheme === 'Token') return { token: rest, username: undefined }
  switch (scheme.toLowerCase()) {
    case 'bearer':
    case 'token':
      return { token: rest, username: undefined }
    case 'basic':
      return basic(rest)
    default:
      return nobody
  }
}

/** `?u=USER&p=TOKEN`, as writers for InfluxDB 1 may do. */
export function presentedInQuery(url: string): Presented {
  const query = url.indexOf('?')
  if (query < 0) return nobody
  const parameters = new URLSearchParams(url.slice(query))
  return { token: parameters.get('p') ?? undefined, username: parameters.get('u') || undefined }
}

/** The user ends at the first colon, so a token may have some (RFC 7617 §2). */
function basic(encoded: string): Presented {
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon < 0) return nobody
  return { token: text.slice(colon + 1), username: colon === 0 ? undefined : text.slice(0, colon) }
}
