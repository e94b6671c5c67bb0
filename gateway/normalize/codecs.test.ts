import { describe, expect, it } from 'vitest'
import { chooseCodec } from './choose-codec.ts'
import { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { EdgeNodes } from './edge-nodes.ts'

/** Codec and readings as `device metric value`, or the error's code. */
function decoded(topic: string, body: string, transport: 'mqtt' | 'http' = 'mqtt'): string[] {
  const input = new CodecInput(Buffer.from(body), {
    transport,
    topic,
    contentType: undefined,
    headers: undefined,
    tenant: 'default',
    transportDevice: 'me-1',
    device: undefined,
    fleet: true,
    arrayElement: false,
    arrivalUs: 1_768_478_400_000_000,
    edgeNodes: new EdgeNodes(),
  })
  try {
    const codec = chooseCodec(input)
    const { readings } = codec.decode(input)
    return [codec.name, ...readings.map(({ device, metric, value }) => `${device} ${metric} ${value}`)]
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    return [error.code]
  }
}

describe('ThingsBoard', () => {
  it.each([
    ['v1/devices/me/attributes', 'garbage'],
    ['v1/devices/me/rpc/response/1', ''],
    ['v1/devices/me', '{"a":1}'],
    ['v1/gateway/connect', '{"device":"a"}'],
    ['v1/gateway', '[]'],
  ])('ignores %s, whatever it holds', (topic, body) => {
    expect(decoded(topic, body)).toEqual(['thingsboard'])
  })

  it('owns no topic that only begins alike', () => {
    expect(decoded('v1/gateways/telemetry', '{"a":1}')[0]).toBe('generic')
    expect(decoded('v1/devices/mean', '{"a":1}')[0]).toBe('generic')
    expect(decoded('/api/v1/token/telemetry/x', '{"a":1}', 'http')[0]).toBe('generic')
    expect(decoded('/api/v1/token/telemetry?x=1', '{"a":1}', 'http')[0]).toBe('thingsboard')
  })

  it('takes `values` for the readings only where it is an object', () => {
    expect(decoded('v1/devices/me/telemetry', '{"ts":5,"values":7}')).toEqual([
      'thingsboard',
      'me-1 ts 5',
      'me-1 values 7',
    ])
    expect(decoded('v1/devices/me/telemetry', '{"values":[7]}')).toEqual(['thingsboard', 'me-1 values.0 7'])
    expect(decoded('v1/devices/me/telemetry', '{"values":null,"a":1}')).toEqual(['thingsboard', 'me-1 a 1'])
  })

  it.each(['5', 'ON', '[5]', '[[{"a":1}]]', '"x"'])('%s is malformed', (body) => {
    expect(decoded('v1/devices/me/telemetry', body)).toEqual(['malformed'])
    expect(decoded('v1/gateway/telemetry', body)).toEqual(['malformed'])
  })

  it.each([
    ['{"":[{"a":1}]}', 'no_device'],
    ['{"a":5}', 'malformed'],
    ['{"a":[5]}', 'malformed'],
  ])('a gateway body %s is %s', (body, code) => {
    expect(decoded('v1/gateway/telemetry', body)).toEqual([code])
  })
})

describe('seed form', () => {
  const post = (body: string) => decoded('/telemetry/ingest', body, 'http')

  it('takes numbers written as text, and arrays', () => {
    expect(
      post('[{"reading_type":"t","reading_value":"-2.5"},{"reading_type":"h","reading_value":1,"device_id":7}]'),
    ).toEqual(['seed', 'me-1 t -2.5', '7 h 1'])
  })

  it('finds the device in the topic before the sender', () => {
    expect(decoded('devices/d1/telemetry', '{"reading_type":"t","reading_value":1}')).toEqual(['seed', 'd1 t 1'])
  })

  it.each([
    ['{"reading_type":"t","reading_value":null}', 'bad_value'],
    ['{"reading_type":"t","reading_value":true}', 'bad_value'],
    ['{"reading_type":"t","reading_value":"1e400"}', 'bad_value'],
    ['{"reading_type":"t","reading_value":" 1"}', 'bad_value'],
    ['{"reading_type":5,"reading_value":1}', 'bad_value'],
    ['{"reading_type":"t","reading_value":1,"unit":5}', 'bad_value'],
    ['{"reading_type":"t","reading_value":1,"battery_level":"50"}', 'bad_value'],
    ['{"reading_type":"t","reading_value":1,"timestamp":"soon"}', 'bad_time'],
    ['{"reading_type":"t","reading_value":1,"device_id":true}', 'no_device'],
    ['[{"reading_type":"t","reading_value":1},{"reading_type":"t"}]', 'malformed'],
    ['[{"reading_type":"t","reading_value":1},5]', 'bad_value'],
  ])('%s is %s', (body, code) => {
    expect(post(body)).toEqual([code])
  })
})

describe('generic form', () => {
  it.each([
    ['{"value":1,"unit":"V"}', ['generic', 'me-1 value 1']],
    ['{"name":"t","value":"x","other":9}', ['generic', 'me-1 t x']],
    ['{"metric":"t","name":"n","value":false}', ['generic', 'me-1 t false']],
    ['{"metric":"t","value":null}', ['generic']],
    ['{"metric":"t","value":[1]}', ['generic', 'me-1 metric t', 'me-1 value.0 1']],
    ['{"deviceId":"a","device":"b"}', ['generic', 'a device b']],
    ['{"device_id":null,"device":"b","n":1}', ['generic', 'b n 1']],
    ['{"device":{"name":"x"},"n":1}', ['generic', 'me-1 device.name x', 'me-1 n 1']],
    ['{"device":1e400,"n":1}', ['bad_value']],
    ['{"ts":null,"time":1700000000,"n":1}', ['generic', 'me-1 n 1']],
    ['{"ts":"","time":1700000000}', ['generic', 'me-1 time 1700000000']],
    ['[{"values":{"a":1}},{"b":2}]', ['own', 'me-1 a 1', 'me-1 b 2']],
    ['{"values":{"a":{"value":1,"unit":"V","x":2}}}', ['own', 'me-1 a.value 1', 'me-1 a.unit V', 'me-1 a.x 2']],
    ['{"values":{"a":{"value":1}}}', ['own', 'me-1 a 1']],
    ['{"values":{"a":{"unit":"V"}}}', ['own', 'me-1 a.unit V']],
    ['{"values":{"a":{"value":[1]}}}', ['own', 'me-1 a.value.0 1']],
    ['{"values":{"a":{"value":null,"unit":"V"}}}', ['own']],
    ['{"values":{"a":[1,null,{"value":2}]}}', ['own', 'me-1 a.0 1', 'me-1 a.2.value 2']],
    ['\ufeff {"values":{"a":1}}', ['own', 'me-1 a 1']],
  ])('%s', (body, expected) => {
    expect(decoded('devices/me/telemetry', body)).toEqual(expected)
  })

  it.each([
    ['devices', '5', ['generic', 'me-1 devices 5']],
    ['home/devices', '5', ['generic', 'home devices 5']],
    ['home/devices', '{"a":1}', ['generic', 'home/devices a 1']],
    ['devices//x', '5', ['no_device']],
    ['/x', '5', ['no_device']],
    ['node/n1', '5', ['generic', 'n1 value 5']],
    ['things/t1/sensors/s1', '5', ['generic', 't1 sensors.s1 5']],
  ])('on %s: %s', (topic, body, expected) => {
    expect(decoded(topic, body)).toEqual(expected)
  })
})

describe('topics of device families', () => {
  it.each([
    ['devices/d1/tele/SENSOR', '5', 'generic'],
    ['devices/d1/online', 'true', 'generic'],
    ['devices/d1/status', 'online', 'generic'],
    ['home/tele/x/SENSOR', '5', 'tasmota'],
    ['home/status', 'busy', 'generic'],
    ['zigbee2mqttx/a', '5', 'generic'],
    ['shellies/a/events/rpc', '{}', 'shelly-gen2'],
    ['spBv1.0/g/DDATA/n/online', '\b\x01', 'sparkplug-b'],
  ])('%s with %s is %s', (topic, body, codec) => {
    expect(decoded(topic, body)[0]).toBe(codec)
  })
})
