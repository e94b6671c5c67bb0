import { describe, expect, it } from 'vitest'
import type { Principal } from '../auth/principal.ts'
import { insideFilter, insideName, insidePrefix } from './device-topics.ts'
import { reasonCode } from './packet-types.ts'
import { faultOfTopicName, PublishTopics, useOfTopic } from './topic.ts'
import { covers } from './topic-filter.ts'

const principal = (device: string, fleet = false, tenant = 'default'): Principal => ({
  tenant,
  device,
  fleet,
  credentialId: device,
  operator: false,
  expiresAtMs: Number.POSITIVE_INFINITY,
  allows: (other) => other === device || fleet,
})
const pump = principal('pump-1')
const gateway = principal('gw-1', true)

describe('what a credential may publish', () => {
  it.each([
    ['devices/pump-1/telemetry', 'telemetry', 'telemetry'],
    ['devices/me/telemetry', 'telemetry', 'telemetry'],
    ['devices/me/a/b/c', 'telemetry', 'telemetry'],
    ['devices/me/', 'telemetry', 'telemetry'],
    ['devices/pump-2/telemetry', 'not_allowed', 'telemetry'],
    ['devices/pump-11/telemetry', 'not_allowed', 'telemetry'],
    ['devices/me/errors', 'not_allowed', 'not_allowed'],
    ['devices/pump-1/errors', 'not_allowed', 'not_allowed'],
    ['devices/pump-1/errors/x', 'not_allowed', 'not_allowed'],
    ['devices/pump-1/commands/reboot', 'not_allowed', 'not_allowed'],
    ['devices/pump-1/receipts', 'not_allowed', 'not_allowed'],
    ['devices/pump-1', 'not_allowed', 'telemetry'],
    ['/devices/pump-1/telemetry', 'not_allowed', 'telemetry'],
    ['devices//telemetry', 'not_allowed', 'telemetry'],
    ['gateways/me/telemetry', 'not_allowed', 'fleet_body'],
    ['gateways/me/errors', 'not_allowed', 'not_allowed'],
    ['gateways/gw-1/telemetry', 'not_allowed', 'telemetry'],
    ['v1/devices/me/telemetry', 'telemetry', 'telemetry'],
    ['v1/devices/me/attributes', 'telemetry', 'telemetry'],
    ['v1/devices/me', 'telemetry', 'telemetry'],
    ['v1/devices/pump-1/telemetry', 'not_allowed', 'telemetry'],
    ['v1/gateway/telemetry', 'telemetry', 'telemetry'],
    ['v1/gateways/telemetry', 'not_allowed', 'telemetry'],
    ['zigbee2mqtt/lamp', 'not_allowed', 'telemetry'],
    ['$SYS/broker/uptime', 'not_allowed', 'not_allowed'],
    ['$share/x/y', 'not_allowed', 'not_allowed'],
    ['__proto__/x', 'not_allowed', 'telemetry'],
  ])('%s: a device %s, a gateway %s', (topic, forDevice, forFleet) => {
    expect(useOfTopic(topic, pump)).toBe(forDevice)
    expect(useOfTopic(topic, gateway)).toBe(forFleet)
  })

  it('a device whose id holds a slash publishes below me', () => {
    const slashed = principal('site/pump')
    expect(useOfTopic('devices/site/pump/telemetry', slashed)).toBe('not_allowed')
    expect(useOfTopic('devices/me/telemetry', slashed)).toBe('telemetry')
  })
})

it.each([
  ['', reasonCode.protocolError],
  ['a/+/b', reasonCode.topicNameInvalid],
  ['a/#', reasonCode.topicNameInvalid],
  ['a\0b', reasonCode.malformed],
  [Buffer.from([0x61, 0xff]), reasonCode.malformed],
  [Buffer.from([0xed, 0xa0, 0x80]), reasonCode.malformed],
  ['ä/💧', 0],
])('faults of a topic name: %j', (name, code) => {
  expect(faultOfTopicName(Buffer.from(name as string))).toBe(code)
})

it('topics are found by their bytes, however many there are', () => {
  const topics = new PublishTopics(gateway, { maxTopicLevels: 16, maxTopicBytes: 512 })
  for (let round = 0; round < 2; round++)
    for (let n = 0; n < 3000; n++) {
      const bytes = Buffer.from(`xx/devices/kid-${n}/ü`)
      expect(topics.find(bytes, 3, bytes.length)).toMatchObject({ name: `devices/kid-${n}/ü`, use: 'telemetry' })
    }
})

const limits = { maxTopicBytes: 512, maxTopicLevels: 16 }

describe('names inside the broker', () => {
  it('carry the tenant, and keep devices apart whose ids hold slashes', () => {
    expect(insideName(principal('esp32', false, 'one'))).not.toBe(insideName(principal('esp32', false, 'two')))
    expect(insidePrefix(principal('a/b'))).toBe('default/devices/a%2Fb/')
    expect(insidePrefix(principal('a%2Fb'))).toBe('default/devices/a%252Fb/')
  })

  it.each([
    [
      'devices/me/errors',
      { hidden: 'default/devices/pump-1/', shown: 'devices/me/', inside: 'default/devices/pump-1/errors' },
    ],
    [
      'devices/pump-1/#',
      { hidden: 'default/devices/pump-1/', shown: 'devices/pump-1/', inside: 'default/devices/pump-1/#' },
    ],
    [
      'devices/me/commands/+',
      { hidden: 'default/devices/pump-1/', shown: 'devices/me/', inside: 'default/devices/pump-1/commands/+' },
    ],
    ['devices/pump-2/errors', 'not_allowed'],
    ['devices/pump-1', 'not_allowed'],
    ['devices/me/', 'not_allowed'],
    ['devices/+/errors', 'not_allowed'],
    ['devices/#', 'not_allowed'],
    ['gateways/me/errors', 'not_allowed'],
    ['#', 'not_allowed'],
    ['+/+/+', 'not_allowed'],
    ['$SYS/#', 'not_allowed'],
    ['$share/g/devices/me/errors', 'shared'],
    ['devices/me/#/x', 'invalid'],
    ['devices/me/x+', 'invalid'],
    ['', 'invalid'],
    [`devices/me/${'a/'.repeat(200)}`, 'invalid'],
  ])('a device subscribes to %j', (filter, expected) => {
    expect(insideFilter(filter, pump, limits)).toEqual(expected)
  })

  it('a gateway subscribes below gateways/me, too', () => {
    expect(insideFilter('gateways/me/errors', gateway, limits)).toMatchObject({
      shown: 'gateways/me/',
      inside: expect.stringMatching(/\/errors$/),
    })
  })

  it.each([
    ['errors', 'errors', true],
    ['#', 'errors', true],
    ['+', 'errors', true],
    ['errors/#', 'errors', true],
    ['+/x', 'errors', false],
    ['commands/#', 'errors', false],
    ['a/+/c', 'a/b/c', true],
    ['a/+', 'a/b/c', false],
  ])('%s covers %s: %s', (filter, topic, expected) => {
    expect(covers(filter, topic)).toBe(expected)
  })
})
