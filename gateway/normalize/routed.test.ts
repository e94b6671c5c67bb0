import { describe, expect, it } from 'vitest'
import { deviceRow, knownOf } from '../auth/known.fixture.ts'
import type { KnownCredentials } from '../auth/known-credentials.ts'
import type { Ingress } from '../ingress.ts'
import { readRoutes } from '../routes/read-routes.ts'
import { RouteTable } from '../routes/route-table.ts'
import { createNormalizer } from './create-normalizer.ts'
import { gateway, http, ingress, pump } from './normalized.fixture.ts'
import type { Outcome } from './normalizer.ts'

/** What becomes of messages under a route table and with aliases of the tenants default and acme. */
function normalizerOf(yaml: string, aliases: Record<string, readonly string[]> = {}) {
  const { rules, problems } = readRoutes(yaml, 'test')
  expect(problems).toEqual([])
  const { known, feed } = knownOf()
  for (const tenant of ['default', 'acme'])
    feed(
      false,
      Object.entries(aliases).map(([device, names]) => deviceRow(device, { tenant, aliases: names })),
    )
  const normalizer = createNormalizer({
    retentionMs: undefined,
    authenticator: { admitDevice: () => 'admitted' },
    routes: new RouteTable(rules),
    aliases: { of: (tenant) => (known satisfies KnownCredentials).devices.aliasesOf(tenant) },
  })
  return (message: Ingress) => {
    const [outcome] = normalizer.normalize([message])
    return shown(outcome as Outcome)
  }
}

/** `codec device metric=value unit` a reading, or what else became of it. */
function shown(outcome: Outcome): string | string[] {
  if (outcome.kind === 'events')
    return outcome.events.flatMap(({ codec, device, readings }) =>
      readings.map(({ metric, value, text, flag, unit }) =>
        [codec, device, `${metric}=${value ?? text ?? flag}`, unit].filter((part) => part !== undefined).join(' '),
      ),
    )
  if (outcome.kind === 'dead') return `${outcome.deadLetter.code} ${outcome.deadLetter.device}`
  return outcome.kind === 'refused' ? outcome.code : outcome.kind
}

const fleet = (topic: string, body: string, more: Partial<Ingress> = {}) =>
  ingress(body, { principal: gateway, topic, ...more })

describe('routes', () => {
  it('a codec, a device and names of its own, before the default order', () => {
    const run = normalizerOf(`
- topic: plant/+/tele/+
  codec: own
  device: "site1-{+1}"
  rename: { t: temperature }
  units: { temperature: C }
  drop: [noise]
`)
    // By its end it would be Tasmota's.
    expect(run(fleet('plant/7/tele/SENSOR', '{"values":{"t":1,"noise":2}}'))).toEqual(['own site1-7 temperature=1 Cel'])
    expect(run(fleet('plant/7/tele/SENSOR', '{"values":{"noise":2}}')), 'nothing is left').toBe('ignored')
    expect(run(fleet('other/7/tele/SENSOR', '{"t":1}'))).toEqual(['tasmota other/7 t=1'])
  })

  it('the template stands above what the payload names, and the rights are checked on it', () => {
    const run = normalizerOf('- { topic: "x/+", device: "{+1}" }\n- { topic: "devices/+/raw/#", device: "{+1}" }')
    expect(run(fleet('x/7', '{"device_id":"model-3","t":1}'))).toEqual(['generic 7 t=1'])
    expect(run(ingress('{"t":1}', { topic: 'devices/pump-1/raw/a' }))).toEqual(['generic pump-1 t=1'])
    expect(run(ingress('{"t":1}', { topic: 'devices/pump-2/raw/a' }))).toBe('not_allowed')
    expect(run(fleet('x/$y', '{"t":1}'))).toBe('bad_device gw-1')
    expect(run(fleet('x/', '{"t":1}')), 'an empty level').toBe('no_device gw-1')
  })

  it("a device of its own may publish a firmware's format below its own name", () => {
    const run = normalizerOf('- { topic: "devices/+/tasmota/tele/+", codec: tasmota, device: "{client}" }')
    const topic = 'devices/pump-1/tasmota/tele/SENSOR'
    expect(run(ingress('{"AM2301":{"Temperature":21.5},"TempUnit":"C"}', { topic }))).toEqual([
      'tasmota pump-1 AM2301.Temperature=21.5 Cel',
    ])
  })

  it('what the path or a fleet body names is not for a template to change', () => {
    const run = normalizerOf('- { path: "/v1/devices/+/telemetry", device: "other", rename: { t: u } }')
    const more = { ...http(), topic: '/v1/devices/pump-1/telemetry', device: 'pump-1' }
    expect(run(ingress('{"t":1}', more))).toEqual(['generic pump-1 u=1'])
  })

  it('another tenant or content type is none of its business', () => {
    const run = normalizerOf('- { topic: "#", tenant: default, contentType: text/x, codec: seed }')
    expect(run(fleet('a/b', '{"t":1}', { contentType: 'text/x' })), 'acme').toEqual(['generic a/b t=1'])
    expect(run(ingress('{"t":1}', { contentType: 'text/y' }))).toEqual(['generic pump-1 t=1'])
    expect(run(ingress('{"t":1}', { contentType: 'text/x' }))).toBe('malformed pump-1')
  })

  it('identity: message goes with the events', () => {
    const outcome = (yaml: string) => {
      const { rules } = readRoutes(yaml, 'test')
      const routes = new RouteTable(rules)
      const authenticator = { admitDevice: () => 'admitted' as const }
      const [result] = createNormalizer({ retentionMs: undefined, authenticator, routes }).normalize([
        ingress('{"n":1}'),
      ])
      return result?.kind === 'events' ? result.events.map(({ identity }) => identity) : result
    }
    expect(outcome('- { topic: "#", identity: message }')).toEqual(['message'])
    expect(outcome('- { topic: "#", identity: reading }')).toEqual([undefined])
  })

  it('options of the line protocol', () => {
    const run = normalizerOf(`
- topic: ha/#
  codec: influx-line
  options: { precision: s, deviceTags: [entity_id], tagsInNames: false }
  rename: { "°C.value": temperature }
  units: { temperature: °C }
`)
    expect(run(fleet('ha/x', '°C,domain=sensor,entity_id=kitchen value=21.5 1700000000'))).toEqual([
      'influx-line kitchen temperature=21.5 Cel',
    ])
  })
})

describe('aliases', () => {
  const aliases = {
    'plug-1': ['tasmota_1A2B3C'],
    'node-7': ['0102030405060708', 'plant/node7'],
    'pump-1': ['old-pump'],
  }

  it('stand for their devices in every format', () => {
    const run = normalizerOf('', aliases)
    expect(run(fleet('tele/tasmota_1A2B3C/SENSOR', '{"x":1}'))).toEqual(['tasmota plug-1 x=1'])
    expect(run(fleet('application/1/device/0102030405060708/event/up', chirpstack))).toEqual(['chirpstack node-7 t=1'])
    expect(run(fleet('devices/plant%2Fnode7/telemetry', '{"device":"plant/node7","t":1}'))).toEqual([
      'generic node-7 t=1',
    ])
    expect(run(fleet('zigbee2mqtt/unknown', '{"x":1}'))).toEqual(['zigbee2mqtt unknown x=1'])
  })

  it('in the path, in a fleet body, and as the own name of the sender', () => {
    const run = normalizerOf('', aliases)
    const named = { ...http(), topic: '/v1/devices/old-pump/telemetry', device: 'old-pump' }
    expect(run(ingress('{"t":1}', named))).toEqual(['generic pump-1 t=1'])
    expect(run(ingress('{"device":"old-pump","t":1}', named))).toEqual(['generic pump-1 t=1'])
    expect(run(ingress('{"device":"old-pump","t":1}'))).toEqual(['generic pump-1 t=1'])
    expect(run(ingress('{"device":"tasmota_1A2B3C","t":1}'))).toBe('not_allowed')
    expect(run(fleet('gateways/me/telemetry', '{"t":1}', { device: 'old-pump', fleetItem: true }))).toEqual([
      'generic pump-1 t=1',
    ])
  })

  it('two names of one device in one message are one event', () => {
    const run = normalizerOf('', aliases)
    const lines = 'm,device=0102030405060708 a=1\nm,device=x a=2\nm,device=plant/node7 a=3\nm,device=node-7 a=4'
    expect(run(fleet('telegraf/x', lines))).toEqual([
      'influx-line node-7 m.a=1',
      'influx-line node-7 m.a=3',
      'influx-line node-7 m.a=4',
      'influx-line x m.a=2',
    ])
  })

  it('a name of JavaScript is no alias', () => {
    const run = normalizerOf('', aliases)
    expect(run(fleet('zigbee2mqtt/__proto__', '{"x":1}'))).toEqual(['zigbee2mqtt __proto__ x=1'])
    expect(pump.tenant).toBe('default')
  })
})

const chirpstack = JSON.stringify({
  deviceInfo: { devEui: '0102030405060708', tenantId: 'x', applicationId: 'y' },
  object: { t: 1 },
})
