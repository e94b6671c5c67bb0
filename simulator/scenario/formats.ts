import type { ModelMetric, Scalar } from './models.ts'

/** What a transport can carry: 3.1.1 has no content type. */
export type Way = 'mqtt' | 'mqtt5' | 'http'

/** The metric that carries the number of a message; every message has it, and it is the first of every device. */
export const numberMetric = 'seq'

/** One message before it has a form. The first value is its number. */
export interface Sample {
  readonly device: string
  readonly token: string
  readonly number: number
  /** The device's clock in whole microseconds; 0 when the message carries no time. */
  readonly timeUs: number
  readonly metrics: readonly ModelMetric[]
  readonly values: readonly Scalar[]
}

export interface Format {
  readonly name: string
  readonly over: readonly Way[]
  /** Whole microseconds of the smallest step that its times have. */
  readonly stepUs: number
  /** What a metric is called when it is stored. */
  metricName(metric: string): string
  readonly mqttTopic: string
  path(sample: Pick<Sample, 'token'>): string
  readonly contentType: string
  payload(sample: Sample): string
  /** Puts the payloads of some messages into one body; undefined: one a request. */
  readonly join?: (payloads: readonly string[]) => string
}

const same = (metric: string) => metric
const array = (payloads: readonly string[]) => `[${payloads.join(',')}]`

/** `{"id":…,"ts":µs,"values":{"temperature":{"value":21.5,"unit":"Cel"}}}`; the id only where there is no time. */
const own: Format = {
  name: 'own',
  over: ['mqtt', 'mqtt5', 'http'],
  stepUs: 1,
  metricName: same,
  mqttTopic: 'devices/me/telemetry',
  path: () => '/v1/telemetry',
  contentType: 'application/json',
  payload({ number, timeUs, metrics, values }) {
    const members = metrics.map(({ name, unit }, index) => {
      const value = JSON.stringify(values[index])
      return unit === undefined ? `"${name}":${value}` : `"${name}":{"value":${value},"unit":"${unit}"}`
    })
    return `{${timeUs === 0 ? `"id":"${number}"` : `"ts":${timeUs}`},"values":{${members.join(',')}}}`
  },
  join: array,
}

/** A flat object with `ts` in milliseconds. */
const generic: Format = {
  ...own,
  name: 'generic',
  stepUs: 1000,
  payload({ timeUs, metrics, values }) {
    return JSON.stringify({
      ts: timeUs / 1000,
      ...Object.fromEntries(metrics.map(({ name }, index) => [name, values[index]])),
    })
  },
}

const thingsboard: Format = {
  ...generic,
  name: 'thingsboard',
  mqttTopic: 'v1/devices/me/telemetry',
  path: ({ token }) => `/api/v1/${token}/telemetry`,
  payload({ timeUs, metrics, values }) {
    return JSON.stringify({
      ts: timeUs / 1000,
      values: Object.fromEntries(metrics.map(({ name }, index) => [name, values[index]])),
    })
  },
  join: array,
}

/** RFC 8428: base time, then a record a metric. */
const senml: Format = {
  name: 'senml',
  over: ['mqtt5', 'http'],
  stepUs: 1000,
  metricName: same,
  mqttTopic: 'devices/me/telemetry',
  path: () => '/v1/telemetry',
  contentType: 'application/senml+json',
  payload({ timeUs, metrics, values }) {
    const records = metrics.map(({ name, unit }, index) => {
      const value = values[index]
      const member = typeof value === 'number' ? 'v' : typeof value === 'string' ? 'vs' : 'vb'
      return {
        ...(index === 0 && { bt: timeUs / 1_000_000 }),
        n: name,
        ...(unit !== undefined && { u: unit }),
        [member]: value,
      }
    })
    return JSON.stringify(records)
  },
}

/** Line protocol, as Telegraf sends it. */
const influx: Format = {
  name: 'influx',
  over: ['http'],
  stepUs: 1,
  metricName: (metric) => `sim.${metric}`,
  mqttTopic: '',
  path: () => '/api/v2/write?precision=us',
  contentType: 'text/plain; charset=utf-8',
  payload({ device, timeUs, metrics, values }) {
    const fields = metrics.map(({ name }, index) => `${name}=${JSON.stringify(values[index])}`)
    return `sim,device_id=${device} ${fields.join(',')} ${timeUs}`
  },
  join: (lines) => lines.join('\n'),
}

export const formats: readonly Format[] = [own, generic, thingsboard, senml, influx]

/** What a broken device sends: the end is missing, so no format can read it, and the number makes it unlike any other. */
export function malformedPayload(run: string, number: number): string {
  return `{"run":"${run}","broken":${number},"values":{"temperature":`
}
