/** A place that takes telemetry, and what is particular about it. */
export interface Route {
  /** As the router writes it; the label of its metrics. */
  readonly pattern: string
  /** The token is a segment of the path; else it is in `Authorization`. */
  readonly tokenInPath: boolean
  /** The elements of an array and the lines of NDJSON are messages of their own. */
  readonly splits: boolean
  /** `{ "device": [ … ] }` by a fleet credential is a message a device. */
  readonly fleetBodies: boolean
  /** Success is 200 without a body, as the clients of that place know it. */
  readonly emptyAnswer: boolean
}

const own = { tokenInPath: false, splits: true, fleetBodies: false, emptyAnswer: false }

export const routes: readonly Route[] = [
  { ...own, pattern: '/v1/telemetry', fleetBodies: true },
  { ...own, pattern: '/v1/devices/:device/telemetry' },
  // ThingsBoard's devices
  { pattern: '/api/v1/:token/telemetry', tokenInPath: true, splits: false, fleetBodies: false, emptyAnswer: true },
  // the earlier IoT Stream Engine's clients
  { ...own, pattern: '/telemetry/ingest' },
  { ...own, pattern: '/api/v1/telemetry/ingest' },
]

/**
 * What a request's messages are filed under: its path with the query as it came, but a token in it is replaced.
 * @param url the target of the request, which the router has matched
 */
export function topicOf({ pattern, tokenInPath }: Route, url: string): string {
  if (!tokenInPath) return url
  const query = url.indexOf('?')
  // From the pattern, not by cutting the token out: the router takes a path in several percent-encoded spellings.
  return pattern.replace(':token', 'TOKEN') + (query < 0 ? '' : url.slice(query))
}
