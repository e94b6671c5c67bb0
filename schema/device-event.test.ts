import fc from 'fast-check'
import { Compile } from 'typebox/schema'
import { describe, expect, it } from 'vitest'
import type { DeviceEventRecord } from './device-event.ts'
import examples from './device-event.v1.examples.json' with { type: 'json' }
import schema from './device-event.v1.json' with { type: 'json' }
import { decodeDeviceEvent, encodeDeviceEvent } from './device-event-record.ts'

const validator = Compile(schema as never)
const problems = (value: unknown) =>
  validator.Errors(value)[1].map(({ instancePath, message }) => `${instancePath} ${message}`)

const read = (record: Record<string, unknown>) => {
  const { key } = encodeDeviceEvent(record as never)
  return decodeDeviceEvent(Buffer.from(key), Buffer.from(JSON.stringify(record)))
}

describe('device-event.v1.json', () => {
  it.each(examples.valid.map((example) => [`${example.kind} ${example.id ?? ''}`, example] as const))(
    'takes the record %s for ever, and so does our reader',
    (_, example) => {
      expect(problems(example)).toEqual([])
      expect(read(example)).toEqual(example)
    },
  )

  it.each(examples.invalid)('refuses $why, and so does our reader', ({ change, remove }) => {
    const { [remove ?? '']: _, ...rest } = examples.valid[0] as Record<string, unknown>
    expect(validator.Check({ ...rest, ...change })).toBe(false)
    expect(read({ ...rest, ...change })).toBeTypeOf('string')
  })

  it('takes every record that the TypeScript type allows within the stated limits', () => {
    const time = fc.integer({ min: 946_684_800_000_000, max: 4_102_444_799_999_999 })
    const rising = fc.maxSafeNat()
    const name = fc.string({ minLength: 1, maxLength: 64 }).filter((text) => !text.includes('\0'))
    const session = fc.record({ client: name, epoch: rising, gateway: name, incarnation: rising, connectedUs: time })
    const event = fc.record({
      v: fc.constant<1>(1),
      id: fc.uuid(),
      tenant: fc.constantFrom('default', 'a-1'),
      device: name,
      kind: fc.constantFrom('connected' as const, 'disconnected' as const, 'lost' as const),
      timeUs: time,
      session,
    })
    const beat = fc.record({
      v: fc.constant<1>(1),
      kind: fc.constant<'gateway'>('gateway'),
      gateway: name,
      incarnation: rising,
      timeUs: time,
    })
    fc.assert(
      fc.property(fc.oneof(event, beat), (sample: DeviceEventRecord) => {
        expect(problems(sample)).toEqual([])
        const { key, value } = encodeDeviceEvent(sample)
        expect(decodeDeviceEvent(Buffer.from(key), Buffer.from(value as string))).toEqual(sample)
      }),
    )
  })

  it('refuses a record under the key of another device', () => {
    const [example] = examples.valid
    expect(decodeDeviceEvent(Buffer.from('default/pump-2'), Buffer.from(JSON.stringify(example)))).toBe(
      'the key is not that of the value',
    )
    expect(decodeDeviceEvent(null, Buffer.from('{'))).toBe('the value is not JSON')
  })
})
