import { styleText } from 'node:util'
import type { Config } from '#platform/config-schema.ts'
import type { DeviceUrls } from '../addresses.ts'
import { withoutPassword } from '../instance.ts'
import { version } from '../version.ts'

export interface StartFacts {
  readonly config: Config
  readonly urls: DeviceUrls
  readonly opsUrl: string
  readonly adminUrl: string
  /** Where the token of the admin API lies; never the token. */
  readonly adminToken: string
  readonly databaseUrl: string
  /** Folder of the embedded Postgres and how it runs; undefined for another. */
  readonly embedded: { readonly dataPath: string; readonly note: string; readonly reusedOrphan: boolean } | undefined
  readonly eventLog: 'direct' | 'kafka'
  readonly rateLimiter: 'memory' | 'redis'
  readonly ackLevel: keyof typeof ackWorth
  readonly device: string
  readonly token: string
  readonly paste: readonly string[]
}

/** What an acknowledgement is worth, for people. */
const ackWorth = {
  committed: 'a PUBACK or 202 means that the rows are committed in Postgres',
  replicated: 'a PUBACK or 202 means that two Kafka brokers at least have it',
  'single-copy':
    'a PUBACK or 202 means that one Kafka broker has it: it survives a crash of the broker, not a power cut',
} as const

/** What runs where, for a person who has just started it. */
export function startBox(facts: StartFacts): string {
  const { embedded, urls } = facts
  const bold = (text: string) => styleText('bold', text, { stream: process.stdout })
  const rows: [string, string][] = [
    ['MQTT', `${listed(urls.mqtt, urls.mqtts, urls.ws, urls.wss)}  3.1.1 and 5`],
    ['HTTP', `${listed(urls.http, urls.https)}  POST /v1/telemetry`],
    ['ops', `${facts.opsUrl}  /metrics /livez /readyz`],
    ['admin', `${facts.adminUrl}  /admin/v1, token: ${facts.adminToken}`],
    // The embedded one's password is this folder's own; the other one's stays where it was given.
    ['Postgres', embedded === undefined ? withoutPassword(facts.databaseUrl) : facts.databaseUrl],
    ...(embedded === undefined ? [] : ([['', embeddedLine(embedded)]] as [string, string][])),
    ['event log', eventLogLine(facts)],
    ['an ack', `${facts.ackLevel}: ${ackWorth[facts.ackLevel]}`],
    ['limits', limitLine(facts)],
    ['device', `${facts.device}  token ${facts.token}`],
  ]
  return [
    '',
    bold(`fleetbridge ${version} runs (Ctrl-C stops it)`),
    '',
    ...rows.map(([name, text]) => `  ${name.padEnd(10)} ${text}`),
    '',
    bold('Send a message and see its row, in another terminal in this folder:'),
    '',
    ...facts.paste.map((line) => `  ${line}`),
    '',
    'waiting for the first message …',
  ].join('\n')
}

function listed(...urls: (string | null)[]): string {
  return urls.filter((url) => url !== null).join('  ') || 'off'
}

function embeddedLine({ dataPath, note, reusedOrphan }: NonNullable<StartFacts['embedded']>): string {
  const parts = [
    `embedded, data in ${dataPath}`,
    note,
    reusedOrphan ? 'taken over from an instance that was killed' : '',
  ]
  return parts.filter((part) => part !== '').join('; ')
}

function eventLogLine({ eventLog, config }: StartFacts): string {
  if (eventLog === 'direct') return 'direct: straight into Postgres, one gateway a database (KAFKA_BROKERS for more)'
  return `kafka: ${config.kafka.brokers?.join(',')}, topics ${config.kafka.topicPrefix}.*`
}

function limitLine({ rateLimiter, config: { limits } }: StartFacts): string {
  const named: [string, string][] = [
    ['device', limits.device],
    ['device readings', limits.deviceReadings],
    ['device bytes', limits.deviceBytes],
    ['fleet', limits.fleet],
    ['fleet readings', limits.fleetReadings],
    ['fleet bytes', limits.fleetBytes],
    ['tenant', limits.tenant],
    ['tenant readings', limits.tenantReadings],
    ['tenant bytes', limits.tenantBytes],
    ['all', limits.all],
    ['all readings', limits.allReadings],
    ['all bytes', limits.allBytes],
  ]
  const set = named.filter(([, limit]) => limit !== 'none').map(([name, limit]) => `${name} ${inWords(limit)}`)
  const where = rateLimiter === 'redis' ? 'in Redis' : 'in this process'
  return `${set.length === 0 ? 'none' : set.join(', ')}; counted ${where} (BRIDGE_LIMITS_…)`
}

/** `100:1,2000:60` → `100 in 1 s and 2000 in 60 s`. */
function inWords(limit: string): string {
  return limit
    .split(',')
    .map((window) => window.replace(':', ' in '))
    .map((window) => `${window} s`)
    .join(' and ')
}
