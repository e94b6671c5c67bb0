import { X509Certificate } from 'node:crypto'
import { expect, it } from 'vitest'
import { programs, snippetFor } from './snippet.ts'
import { authorityPem, gatewayPem, hostileDevices, plainFacts, tlsFacts } from './testing/facts.ts'

it.each(programs)(
  '%s: host, port, device and token are filled in, and nothing of TLS where there is none',
  (platform) => {
    const snippet = snippetFor(platform, plainFacts)
    expect(snippet).toContain('gateway.example')
    expect(snippet).toContain('pump-1')
    expect(snippet.split(plainFacts.token)).toHaveLength(2)
    expect(snippet).toMatch(platform === 'curl' ? /8080/ : /1883/)
    expect(snippet).toMatch(/[Nn]ot encrypted/)
    expect(snippet).not.toContain('BEGIN CERTIFICATE')
    expect(snippet).not.toMatch(/undefined|\[object|NaN/)
  },
)

it.each(programs)('%s: with TLS nothing plain is left, and the authority is checked', (platform) => {
  const snippet = snippetFor(platform, tlsFacts)
  expect(snippet).toMatch(platform === 'curl' ? /https:\/\/gateway\.example:8443/ : /8883/)
  expect(snippet).not.toMatch(/\b1883\b|http:\/\/|[Nn]ot encrypted/)
  expect(snippet).toMatch(/--cacert|CA_FILE = "ca\.pem"|BEGIN CERTIFICATE|a2b_base64/)
  expect(snippet).not.toMatch(/insecure|CERT_NONE|skip_cert|-k /i)
})

it('without an authority of its own TLS goes by those that the system knows', () => {
  const { ca: _ca, ...facts } = tlsFacts
  expect(snippetFor('esp-idf', facts)).toContain('.broker.verification.crt_bundle_attach = esp_crt_bundle_attach')
  expect(snippetFor('python', facts)).toContain('CA_FILE = None')
  expect(snippetFor('curl', facts)).not.toContain('--cacert')
})

it('every MQTT program keeps what the acknowledgement is worth', () => {
  const settings = {
    'esp-idf': [
      '.session.keepalive = 60',
      '.session.disable_clean_session = true',
      '.session.message_retransmit_timeout = 10000',
      '.outbox.limit = 16 * 1024',
      'esp_random()',
    ],
    arduino: [
      'setKeepAlive(60)',
      'setCleanSession(false)',
      'MQTTClient client(512)',
      'random(backOffMs / 2',
      'false, 1)',
    ],
    micropython: ['keepalive=60', 'clean_session=False', 'settimeout(TIMEOUT)', 'random.random()', 'qos=1'],
    python: ['keepalive=60', 'clean_session=False', 'random.random()', 'qos=1', 'VERSION2'],
  } as const
  for (const [platform, wanted] of Object.entries(settings) as [keyof typeof settings, readonly string[]][]) {
    const snippet = snippetFor(platform, plainFacts)
    for (const setting of [...wanted, 'devices/me/errors', 'devices/me/telemetry', 'ts'])
      expect(snippet, platform).toContain(setting)
  }
})

it.each(programs)('%s: a device id stays data, one line, and without what turns text round', (platform) => {
  const lines = snippetFor(platform, plainFacts).split('\n').length
  for (const device of hostileDevices) {
    const snippet = snippetFor(platform, { ...plainFacts, device })
    expect(snippet.split('\n')).toHaveLength(lines)
    expect(snippet).not.toMatch(/[\u202e\u2028\u2029]/)
    expect(snippet, 'a comment that goes on in the next line').not.toMatch(/^\s*(\/\/|#).*\\$/m)
  }
})

it('certificates become base64 for MicroPython, each for itself', () => {
  const pem = `${authorityPem}${gatewayPem}`
  const snippet = snippetFor('micropython', { ...tlsFacts, ca: { file: 'ca.pem', pem } })
  const bodies = [...snippet.matchAll(/^ {4}"""([A-Za-z0-9+/=\n]+)""",$/gm)].map(([, body]) => body ?? '')
  expect(bodies.map((body) => new X509Certificate(Buffer.from(body, 'base64')).subject)).toEqual([
    'CN=an authority',
    'CN=gateway.example',
  ])
})

it('a PEM becomes C as it is', () => {
  const snippet = snippetFor('arduino', tlsFacts)
  const literals = [...snippet.matchAll(/^ {4}"(.*)\\n";?$/gm)].map(([, line]) => line)
  expect(literals.join('\n')).toBe(authorityPem.trim())
})
