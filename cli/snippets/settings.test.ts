import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { type Settings, settings, snippetFor } from './snippet.ts'
import { hostileDevices, plainFacts, tlsFacts } from './testing/facts.ts'

const isHttp = (platform: Settings) => platform === 'telegraf' || platform === 'home-assistant'

it.each(settings)(
  '%s: host, port, device and token are filled in, and nothing of TLS where there is none',
  (platform) => {
    const snippet = snippetFor(platform, plainFacts)
    for (const part of ['gateway.example', 'pump-1', plainFacts.token]) expect(snippet).toContain(part)
    expect(snippet).toMatch(isHttp(platform) ? /8080/ : /1883/)
    expect(snippet).toMatch(/[Nn]ot encrypted/)
    expect(snippet).not.toContain('BEGIN CERTIFICATE')
    expect(snippet).not.toMatch(/undefined|\[object|NaN/)
  },
)

it.each(settings)('%s: with TLS nothing plain is left', (platform) => {
  const snippet = snippetFor(platform, tlsFacts)
  expect(snippet).toMatch(isHttp(platform) ? /8443/ : /8883/)
  expect(snippet).not.toMatch(/\b1883\b|http:\/\/gateway|mqtt:\/\/|[Nn]ot encrypted|verify_ssl: false|"ssl_ca":"\*"/)
})

it.each(['zigbee2mqtt', 'esphome', 'home-assistant'] as const)('%s: a device id stays data', (platform) => {
  for (const facts of [plainFacts, tlsFacts])
    for (const device of hostileDevices) {
      const text = snippetFor(platform, { ...facts, device })
      expect(text).not.toMatch(/[\u202e\u2028\u2029]/)
      const read = parse(text) as { mqtt?: { client_id: string; password: string }; influxdb?: { token: string } }
      if (read.mqtt !== undefined) expect(read.mqtt).toMatchObject({ client_id: device, password: facts.token })
      else expect(read.influxdb?.token).toBe(facts.token)
    }
})

it('Shelly: its command is one JSON text', () => {
  const body = / -d '(.*)'\n/.exec(snippetFor('shelly', tlsFacts))?.[1] ?? ''
  expect(JSON.parse(body)).toMatchObject({
    method: 'MQTT.SetConfig',
    params: {
      config: { server: 'gateway.example:8883', status_ntf: true, topic_prefix: 'pump-1', ssl_ca: 'user_ca.pem' },
    },
  })
})
