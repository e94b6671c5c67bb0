import fc from 'fast-check'
import { expect, it } from 'vitest'
import { decodeTelemetry, encodeTelemetry } from '#schema/telemetry-record.ts'
import type { Principal } from '../auth/principal.ts'
import type { Ingress } from '../ingress.ts'
import { createNormalizer } from './create-normalizer.ts'
import type { Outcome } from './normalizer.ts'

const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000)
console.info(`normalize: FUZZ_SEED=${seed}`)

const known = [
  'ts',
  'time',
  'values',
  'value',
  'unit',
  'metric',
  'name',
  'device',
  'device_id',
  'id',
  'reading_type',
  'reading_value',
  'timestamp',
  'battery_level',
  'ENERGY',
  'Time',
  'Epoch',
  'StatusSNS',
  'last_seen',
  'state',
  'reported',
  'method',
  'params',
  'end_device_ids',
  'uplink_message',
  'decoded_payload',
  'received_at',
  'deviceInfo',
  'devEui',
  'object',
  'margin',
  'location',
  '_type',
  'lat',
  'lon',
  'tst',
  'bn',
  'bt',
  'n',
  't',
  'v',
  'vs',
  's',
  '__proto__',
  'constructor',
]
const key = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...known) }, fc.string({ unit: 'binary', maxLength: 8 }))
const scalar = fc.oneof(
  fc.string({ maxLength: 8 }),
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.double(),
  fc.integer({ min: 0, max: 2_000_000_000 }),
  fc.constantFrom(
    null,
    true,
    1.7e12,
    '2026-01-15T12:00:00Z',
    '\ud800',
    '\0',
    'pump-1',
    'me',
    'a+b',
    'online',
    'location',
    'NotifyStatus',
    '1700000000',
  ),
)
const { document } = fc.letrec<{ document: unknown }>((tie) => ({
  document: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    scalar,
    fc.array(tie('document'), { maxLength: 5 }),
    fc
      .uniqueArray(fc.tuple(key, tie('document')), { maxLength: 5, selector: ([name]) => name })
      .map((pairs) => Object.fromEntries(pairs)),
  ),
}))
const body = fc.oneof(
  document.map((value) => Buffer.from(JSON.stringify(value))),
  // Cut and bent JSON comes further into a decoder than bytes at random.
  fc.tuple(document, fc.nat(), fc.nat(255)).map(([value, at, byte]) => {
    const bytes = Buffer.from(JSON.stringify(value))
    bytes[at % bytes.length] = byte
    return bytes
  }),
  fc.tuple(document, fc.nat()).map(([value, at]) => {
    const bytes = Buffer.from(JSON.stringify(value))
    return bytes.subarray(0, at % bytes.length)
  }),
  fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
)
const topic = fc.oneof(
  fc.constantFrom(
    'devices/me/telemetry',
    'devices/pump-1/t',
    'gateways/me/telemetry',
    'v1/devices/me/telemetry',
    'v1/gateway/telemetry',
    'tele/plug/SENSOR',
    'stat/plug/STATUS10',
    'tele/plug/LWT',
    'zigbee2mqtt/plug',
    'zigbee2mqtt/plug/availability',
    'shellies/plug/relay/0/power',
    'plug/events/rpc',
    'plug/status/switch:0',
    'plug/online',
    'node/sensor/t/state',
    'node/text/t/state',
    'node/status',
    'homie/5/d/n/p',
    'homie/d/$state',
    'v3/a@t/devices/d/up',
    'application/a/device/d/event/up',
    'application/a/device/d/event/status',
    'application/a/device/d/event/location',
    'owntracks/jane/phone',
    '$aws/things/lamp/shadow/update',
    '/pub',
    'home/kitchen/t',
    't',
    '/v1/telemetry',
    '/v1/devices/%zz/telemetry?x=1',
    '/api/v1/x/telemetry',
    '/api/v2/write?precision=ms',
    'telegraf/x',
  ),
  fc.string(),
)
const ingress = fc
  .record({
    fleet: fc.boolean(),
    source: fc.constantFrom('mqtt' as const, 'http' as const),
    topic,
    contentType: fc.constantFrom(undefined, 'application/json', 'text/plain', 'application/senml+json', 'image/png'),
    payload: body,
    device: fc.option(fc.constantFrom('pump-1', 'me', 'other', 'a+b', '', '\ud800'), { nil: undefined }),
    fleetItem: fc.boolean(),
    arrayElement: fc.boolean(),
    acknowledgesParked: fc.boolean(),
  })
  .map(
    ({ fleet, ...rest }): Ingress => ({
      ...rest,
      principal: principalOf(fleet),
      ingestTimeUs: 1_768_478_400_000_000,
      arrivedAtMs: 0,
    }),
  )

function principalOf(fleet: boolean): Principal {
  return {
    tenant: 'default',
    device: 'pump-1',
    fleet,
    credentialId: 'c',
    operator: false,
    expiresAtMs: Number.POSITIVE_INFINITY,
    allows: (device) => fleet || device === 'pump-1',
  }
}

const codeOf = (outcome: Outcome) => (outcome.kind === 'dead' ? outcome.deadLetter : undefined)

it('any batch gives one outcome a message, in order, and events that a worker takes', () => {
  const kinds = new Map<string, number>()
  const normalizer = createNormalizer({
    retentionMs: 90 * 86_400_000,
    authenticator: { admitDevice: () => 'admitted' },
  })
  fc.assert(
    fc.property(fc.array(ingress, { minLength: 1, maxLength: 4 }), (batch) => {
      const outcomes = normalizer.normalize(batch)
      expect(outcomes).toHaveLength(batch.length)
      for (const [index, outcome] of outcomes.entries()) {
        const message = batch[index] as Ingress
        kinds.set(outcome.kind, (kinds.get(outcome.kind) ?? 0) + 1)
        const deadLetter = codeOf(outcome)
        if (deadLetter !== undefined) {
          expect(deadLetter.payload).toBe(message.payload)
          expect(deadLetter.message).not.toBe('decoder failure')
        }
        if (outcome.kind !== 'events') continue
        expect(outcome.events.length).toBeGreaterThan(0)
        for (const event of outcome.events) {
          expect(message.principal.allows(event.device)).toBe(true)
          const { key, value } = encodeTelemetry(event)
          expect(decodeTelemetry(Buffer.from(key), Buffer.from(value as string)), 'what the worker says').toEqual(event)
        }
      }
    }),
    { seed, numRuns: 3000 },
  )
  expect([...kinds.keys()].sort(), 'all kinds were seen').toEqual(['dead', 'events', 'ignored', 'refused'])
})
