import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { chooseCodec } from './choose-codec.ts'
import type { RawReading } from './codec.ts'
import { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'

/** Files of cases/, by the name of the codec that they are about. */
const caseFiles = [
  'own',
  'generic',
  'seed',
  'thingsboard',
  'tasmota',
  'zigbee2mqtt',
  'shelly-gen1',
  'shelly-gen2',
  'esphome',
  'homie',
  'tts',
  'chirpstack',
  'owntracks',
  'aws-shadow',
  'senml-json',
  'influx-line',
]
/** Where one codec has several files, or a topic of one generation is the other's too. */
const codecsOf = new Map([
  ['senml-json', ['senml']],
  ['shelly-gen2', ['shelly-gen2', 'shelly-gen1']],
])

/** One message and what it means; ids and sources say where it was seen. */
interface Case {
  readonly id: string
  readonly transport: 'mqtt' | 'http'
  readonly topic?: string
  readonly path?: string
  readonly content_type?: string
  readonly client_id?: string
  /** Arrival time, where the result depends on it. */
  readonly received_at?: string
  readonly payload_utf8?: string
  readonly payload_base64?: string
  readonly expect: { readonly error: string } | { readonly readings: readonly CaseReading[] }
}

interface CaseReading {
  readonly device: string
  readonly metric: string
  readonly value: number | string | boolean
  readonly unit: string | null
  /** ISO 8601 in UTC; null for the arrival time. */
  readonly ts: string | null
}

describe.each(caseFiles)('cases/%s.json', (file) => {
  const cases = JSON.parse(readFileSync(new URL(`./cases/${file}.json`, import.meta.url), 'utf8')) as Case[]

  const names = codecsOf.get(file) ?? [file]

  it.each(cases)('$id', (example) => {
    const { codec, result } = decoded(inputOf(example))
    expect(result).toEqual('error' in example.expect ? example.expect : { readings: sorted(example.expect.readings) })
    // A message that cannot be read may not get as far as the form that it was meant to have.
    if (!('error' in example.expect)) expect([...names, 'generic']).toContain(codec)
  })

  it('names its codec', () => {
    expect(cases.map((example) => decoded(inputOf(example)).codec)).toContain(names[0])
  })
})

function inputOf(example: Case): CodecInput {
  const payload =
    example.payload_base64 === undefined
      ? Buffer.from(example.payload_utf8 ?? '')
      : Buffer.from(example.payload_base64, 'base64')
  return new CodecInput(payload, {
    transport: example.transport,
    topic: example.topic ?? example.path ?? '',
    contentType: example.content_type,
    transportDevice: example.client_id,
    device: undefined,
    fleet: false,
    arrayElement: false,
    arrivalUs: Date.parse(example.received_at ?? '2026-01-15T12:00:00Z') * 1000,
  })
}

function decoded(input: CodecInput): { codec?: string; result: Case['expect'] } {
  let codec: string | undefined
  try {
    const chosen = chooseCodec(input)
    codec = chosen.name
    return { codec, result: { readings: sorted(chosen.decode(input).readings.map(asCase)) } }
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    return { ...(codec && { codec }), result: { error: error.code } }
  }
}

function asCase({ device, metric, value, unit, timeUs }: RawReading): CaseReading {
  return { device, metric, value, unit: unit ?? null, ts: timeUs === undefined ? null : iso(timeUs) }
}

/** Three fractional digits, or six when it is no whole millisecond. */
function iso(timeUs: number): string {
  const text = new Date(Math.floor(timeUs / 1000)).toISOString()
  const rest = timeUs % 1000
  return rest === 0 ? text : `${text.slice(0, -1)}${String(rest).padStart(3, '0')}Z`
}

function sorted(readings: readonly CaseReading[]): CaseReading[] {
  const key = ({ device, metric, ts, value }: CaseReading) => JSON.stringify([device, metric, ts ?? '', value])
  return readings.toSorted((a, b) => (key(a) < key(b) ? -1 : 1))
}
