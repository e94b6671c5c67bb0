import { expect, it } from 'vitest'
import type { TelemetryEvent } from './telemetry-event.ts'
import { decodeTelemetry, encodeTelemetry } from './telemetry-record.ts'

const event: TelemetryEvent = {
  v: 1,
  id: '01a0c450-6c7b-7000-8000-000000000001',
  messageKey: 'm-1',
  tenant: 'default',
  device: 'site/pümp-1',
  gateway: 'gw-1',
  source: 'http',
  codec: 'own',
  ingestTimeUs: 1_790_000_000_123_456,
  readings: [
    { metric: 'temperature', value: -21.5, unit: 'Cel', eventTimeUs: 1_790_000_000_000_001 },
    { metric: 'state', text: '', eventTimeUs: 1, deviceTimeUs: 2, clock: 2 },
    { metric: 'open', flag: false, eventTimeUs: 1, clock: 1 },
  ],
}

function decode(value: unknown, key = 'default/site/pümp-1') {
  return decodeTelemetry(Buffer.from(key), Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)))
}

it('comes back as it was, under the key of its device and the time of its arrival', () => {
  const record = encodeTelemetry(event)
  expect(record).toMatchObject({ key: 'default/site/pümp-1', timestampMs: 1_790_000_000_123 })
  expect(record.headers).toEqual({ 'content-type': 'application/json', schema: 'fleetbridge.telemetry.v1' })
  expect(decode(String(record.value))).toEqual(event)
})

it('leaves fields alone that it does not know', () => {
  const wider = { ...event, since: 'v1.4', readings: [{ ...event.readings[0], quality: 3 }] }
  expect(decode(wider)).toEqual(wider)
})

it('dates the record of a replayed message by now, or the log might drop it before anybody has read it', () => {
  const replayed = { ...event, replayOf: event.id, ingestTimeUs: 1_600_000_000_000_000 }
  expect(encodeTelemetry(replayed).timestampMs).toBeGreaterThan(Date.now() - 60_000)
  expect(decode(replayed)).toEqual(replayed)
})

const reading = event.readings[0]
const many = Array.from({ length: 1001 }, () => reading)

it.each<[string, unknown, RegExp]>([
  ['no JSON', '{"v":1', /not JSON/],
  ['a list', '[]', /not an object/],
  ['null', 'null', /not an object/],
  ['another version', { ...event, v: 2 }, /^v /],
  ['an id that is no UUID', { ...event, id: 'x' }, /^id/],
  ['a tenant with a slash', { ...event, tenant: 'a/b' }, /^tenant/],
  ['no device', { ...event, device: undefined }, /^device/],
  ['an empty device', { ...event, device: '' }, /^device/],
  ['a device of 129 bytes', { ...event, device: `${'ü'.repeat(64)}x` }, /^device/],
  ['another device than its key', { ...event, device: 'pump-2' }, /^the key/],
  ['a gateway that is a number', { ...event, gateway: 1 }, /^gateway/],
  ['a key that is a number', { ...event, messageKey: 1 }, /^messageKey/],
  ['another identity', { ...event, identity: 'value' }, /^identity/],
  ['a delivery without a name', { ...event, deliveryKey: '' }, /^deliveryKey/],
  ['a re-send that is none', { ...event, resend: false }, /^resend/],
  ['a replay of no dead letter', { ...event, replayOf: 'm-1' }, /^replayOf/],
  ['another source', { ...event, source: 'amqp' }, /^source/],
  ['no codec', { ...event, codec: undefined }, /^codec/],
  ['a time that is no whole number', { ...event, ingestTimeUs: 1.5 }, /^ingestTimeUs/],
  ['readings that are no list', { ...event, readings: { 0: reading } }, /^readings/],
  ['no readings', { ...event, readings: [] }, /^readings/],
  ['1001 readings', { ...event, readings: many }, /more than 1000/],
  ['a reading that is null', { ...event, readings: [reading, null] }, /^reading 1: it is not/],
  ['no metric', { ...event, readings: [{ ...reading, metric: undefined }] }, /metric/],
  ['a metric of 257 bytes', { ...event, readings: [{ ...reading, metric: 'x'.repeat(257) }] }, /metric/],
  ['a text as value', { ...event, readings: [{ ...reading, value: '1' }] }, /finite/],
  ['1e400', JSON.stringify(event).replace('-21.5', '1e400'), /finite/],
  ['value and text', { ...event, readings: [{ ...reading, text: 'x' }] }, /more than one/],
  ['neither', { ...event, readings: [{ ...reading, value: undefined }] }, /none of/],
  ['U+0000 in a text', { ...event, readings: [{ ...reading, value: undefined, text: 'a\0b' }] }, /text/],
  ['a lone surrogate', { ...event, readings: [{ ...reading, value: undefined, text: '\ud800' }] }, /text/],
  [
    'a text of 16 KiB and more',
    { ...event, readings: [{ ...reading, value: undefined, text: 'ä'.repeat(8193) }] },
    /text/,
  ],
  ['a unit of 65 bytes', { ...event, readings: [{ ...reading, unit: 'x'.repeat(65) }] }, /unit/],
  ['no time', { ...event, readings: [{ ...reading, eventTimeUs: undefined }] }, /eventTimeUs/],
  ['an unknown clock', { ...event, readings: [{ ...reading, clock: 3 }] }, /clock/],
])('refuses %s', (_name, value, why) => {
  expect(decode(value)).toMatch(why)
})

it('refuses records without key or value', () => {
  expect(decodeTelemetry(null, Buffer.from(JSON.stringify(event)))).toMatch(/key/)
  expect(decodeTelemetry(Buffer.from('default/a'), null)).toMatch(/no value/)
})
