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
  /** InfluxDB's line protocol: each line is a message, all lines together are charged once and have one answer. */
  readonly lines?: boolean
  /** OwnTracks: 200 with an empty array, also for what is parked, since the app sends what was answered with 400 again and nothing behind it. */
  readonly acknowledgesParked?: boolean
  /** Where there is no `Authorization`, the query's `u` and `p` are user and token. */
  readonly queryCredentials?: boolean
}

const own = { tokenInPath: false, splits: true, fleetBodies: false, emptyAnswer: false }

const influx = { ...own, splits: false, lines: true }

/** Any path that the route table names. */
export const routedDoor: Route = { ...own, pattern: 'routed' }

export const routes: readonly Route[] = [
  { ...own, pattern: '/v1/telemetry', fleetBodies: true },
  { ...own, pattern: '/v1/devices/:device/telemetry' },
  // ThingsBoard's devices
  { pattern: '/api/v1/:token/telemetry', tokenInPath: true, splits: false, fleetBodies: false, emptyAnswer: true },
  // the earlier IoT Stream Engine's clients
  { ...own, pattern: '/telemetry/ingest' },
  { ...own, pattern: '/api/v1/telemetry/ingest' },
  { ...own, pattern: '/pub', splits: false, acknowledgesParked: true },
  // InfluxDB's writers: version 2, and version 1
  { ...influx, pattern: '/api/v2/write' },
  { ...influx, pattern: '/write', queryCredentials: true },
]

/**
 * What a request's messages are filed under: its path with the query as it came, but a token in it is replaced or left out.
 * @param url the target of the request, which the router has matched
 */
export function topicOf({ pattern, tokenInPath, lines, queryCredentials }: Route, url: string): string {
  if (!tokenInPath && lines !== true) return url
  const at = url.indexOf('?')
  const query = at < 0 ? '' : url.slice(at)
  // From the pattern, not by cutting the token out: the router takes a path in several percent-encoded spellings.
  return pattern.replace(':token', 'TOKEN') + (queryCredentials === true ? withoutCredentials(query) : query)
}

/** Through the reader that finds the credentials, so that no spelling of `p` stays behind. */
function withoutCredentials(query: string): string {
  const parameters = new URLSearchParams(query)
  if (!parameters.has('u') && !parameters.has('p')) return query
  parameters.delete('u')
  parameters.delete('p')
  return parameters.size === 0 ? '' : `?${parameters}`
}
