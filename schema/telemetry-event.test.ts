import fc from 'fast-check'
import { Compile } from 'typebox/schema'
import { describe, expect, it } from 'vitest'
import type { Reading, TelemetryEvent } from './telemetry-event.ts'
import examples from './telemetry-event.v1.examples.json' with { type: 'json' }
import schema from './telemetry-event.v1.json' with { type: 'json' }
import { decodeTelemetry } from './telemetry-record.ts'

const validator = Compile(schema as never)
const problems = (value: unknown) =>
  validator.Errors(value)[1].map(({ instancePath, message }) => `${instancePath} ${message}`)

const read = (record: Record<string, unknown>) =>
  decodeTelemetry(Buffer.from(`${record.tenant}/${record.device}`), Buffer.from(JSON.stringify(record)))

/** The compiler sees to it that these name every member of the types, and no other. */
const eventMembers: Record<keyof Required<TelemetryEvent>, true> = {
  v: true,
  id: true,
  messageKey: true,
  identity: true,
  deliveryKey: true,
  resend: true,
  replayOf: true,
  tenant: true,
  device: true,
  gateway: true,
  source: true,
  codec: true,
  ingestTimeUs: true,
  readings: true,
  raw: true,
}
const readingMembers: Record<keyof Required<Reading>, true> = {
  metric: true,
  value: true,
  text: true,
  flag: true,
  unit: true,
  eventTimeUs: true,
  deviceTimeUs: true,
  clock: true,
}
type RequiredOf<Type> = { [Key in keyof Type]-?: object extends Pick<Type, Key> ? never : Key }[keyof Type]
const requiredEventMembers: Record<RequiredOf<TelemetryEvent>, true> = {
  v: true,
  id: true,
  tenant: true,
  device: true,
  source: true,
  codec: true,
  ingestTimeUs: true,
  readings: true,
}
const requiredReadingMembers: Record<RequiredOf<Reading>, true> = { metric: true, eventTimeUs: true }

describe('telemetry-event.v1.json', () => {
  it.each(examples.valid.map((example) => [example.id, example] as const))(
    'takes the record %s for ever',
    (_, example) => {
      expect(problems(example)).toEqual([])
    },
  )

  it.each(examples.invalid)('refuses $why', ({ change, remove }) => {
    const { [remove ?? '']: _, ...rest } = examples.valid[0] as Record<string, unknown>
    expect(validator.Check({ ...rest, ...change })).toBe(false)
    expect(read({ ...rest, ...change }), 'and so does our reader').toBeTypeOf('string')
  })

  it('names the members of the TypeScript type', () => {
    expect(Object.keys(schema.properties).sort()).toEqual(Object.keys(eventMembers).sort())
    expect(Object.keys(schema.$defs.reading.properties).sort()).toEqual(Object.keys(readingMembers).sort())
    expect([...schema.required].sort()).toEqual(Object.keys(requiredEventMembers).sort())
    expect([...schema.$defs.reading.required].sort()).toEqual(Object.keys(requiredReadingMembers).sort())
  })

  it('takes every event that the TypeScript type allows within the stated limits', () => {
    const time = fc.maxSafeInteger()
    const name = fc.string({ minLength: 1, maxLength: 64 })
    const value = fc.oneof(
      fc.record({ value: fc.double({ noNaN: true, noDefaultInfinity: true }) }),
      fc.record({ text: fc.string() }),
      fc.record({ flag: fc.boolean() }),
    )
    const more = fc.record(
      { unit: name, deviceTimeUs: time, clock: fc.constantFrom<1 | 2>(1, 2) },
      { requiredKeys: [] },
    )
    const reading = fc
      .tuple(fc.record({ metric: name, eventTimeUs: time }), value, more)
      .map((parts): Reading => Object.assign({}, ...parts))
    const required = fc.record({
      v: fc.constant<1>(1),
      id: fc.uuid(),
      tenant: fc.constantFrom('default', 'a-1'),
      device: name,
      source: fc.constantFrom<'mqtt' | 'http'>('mqtt', 'http'),
      codec: name,
      ingestTimeUs: time,
      readings: fc.array(reading, { minLength: 1, maxLength: 5 }),
    })
    const event = fc
      .tuple(required, fc.record({ messageKey: name, gateway: name }, { requiredKeys: [] }))
      .map((parts): TelemetryEvent => Object.assign({}, ...parts))
    fc.assert(
      fc.property(event, (sample) => {
        expect(problems(JSON.parse(JSON.stringify(sample)))).toEqual([])
      }),
    )
  })
})
