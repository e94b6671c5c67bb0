import type { Answer } from './problem.ts'

/** Places at which InfluxDB's clients ask whether somebody is there; without credentials, so they tell nothing else. */
export interface Probe {
  readonly pattern: string
  readonly answer: Answer
}

/** A client may look for a version, and finds that of the API which it writes to; ours is nobody's business. */
const version = { 'x-influxdb-version': '2.0.0', 'x-influxdb-build': 'OSS' }

export const probes: readonly Probe[] = [
  { pattern: '/ping', answer: { status: 204, headers: version, body: '' } },
  {
    pattern: '/health',
    answer: {
      status: 200,
      headers: { ...version, 'content-type': 'application/json' },
      body: '{"name":"influxdb","message":"ready for writes","status":"pass","checks":[]}',
    },
  },
]
