import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { loadConfig } from '#platform/config.ts'
import { connectionOf, type Running } from './connection.ts'
import { authorityPem, gatewayPem } from './testing/facts.ts'

const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-connection-'))
afterAll(() => rmSync(folder, { recursive: true }))

function file(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

function settings(environment: Record<string, string> = {}) {
  return loadConfig({ BRIDGE_CONFIG: file('empty.yaml', ''), ...environment })
}

const withTls = (certFile: string) =>
  settings({ BRIDGE_TLS_CERT_FILE: certFile, BRIDGE_TLS_KEY_FILE: join(folder, 'key.pem') })

it("goes by the settings when nothing runs here, under this machine's name", () => {
  expect(connectionOf(settings({ BRIDGE_MQTT_PORT: '11883' }), undefined, {})).toEqual({
    host: hostname(),
    mqttPort: 11883,
    httpUrl: `http://${hostname()}:8080`,
  })
})

it('goes by the ports of the running instance, and by localhost where it listens to nobody else', () => {
  const running = { mqtt: 'mqtt://localhost:41883', http: 'http://localhost:48080', mqtts: null } as Running
  expect(connectionOf(settings({ BRIDGE_MQTT_HOST: '127.0.0.1' }), running, {})).toEqual({
    host: 'localhost',
    mqttPort: 41883,
    httpUrl: 'http://localhost:48080',
  })
  const secure = { ...running, mqtts: 'mqtts://localhost:48883', https: 'https://localhost:48443' }
  const certFile = file('self.pem', authorityPem)
  expect(connectionOf(withTls(certFile), secure, { host: 'gateway.example' })).toMatchObject({
    mqttTlsPort: 48883,
    httpsUrl: 'https://gateway.example:48443',
  })
  const plain = connectionOf(withTls(certFile), { ...running, https: null }, {})
  expect(plain, 'it was started without').not.toHaveProperty('mqttTlsPort')
  expect(plain).not.toHaveProperty('ca')
})

it('does not guess a port that is picked at the start', () => {
  expect(() => connectionOf(settings({ BRIDGE_MQTT_PORT: '0' }), undefined, {})).toThrow(/picked at the start/)
})

it('writes an IPv6 address with brackets in URLs only', () => {
  for (const host of ['2001:db8::1', '[2001:db8::1]'])
    expect(connectionOf(settings(), undefined, { host })).toMatchObject({
      host: '2001:db8::1',
      httpUrl: 'http://[2001:db8::1]:8080',
    })
})

it.each(['', 'a b', 'x"y', 'http://x', 'a'.repeat(254), 'x\ny'])('%j is no host', (host) => {
  expect(() => connectionOf(settings(), undefined, { host })).toThrow(/no host/)
})

it('finds the authority in a chain that ends in one, and nowhere else', () => {
  const chain = file('chain.pem', gatewayPem + authorityPem)
  expect(connectionOf(withTls(chain), undefined, {})).toMatchObject({
    mqttTlsPort: 8883,
    ca: { file: chain, pem: authorityPem },
  })
  expect(connectionOf(withTls(file('leaf.pem', gatewayPem)), undefined, {}).ca).toBeUndefined()
})

it('takes the authority that is given, and says what is wrong with the file', () => {
  const config = withTls(file('leaf.pem', gatewayPem))
  const ca = file('ca.pem', `# ours\n${authorityPem}`)
  expect(connectionOf(config, undefined, { ca }).ca).toEqual({ file: ca, pem: authorityPem })
  expect(() => connectionOf(config, undefined, { ca: join(folder, 'none.pem') })).toThrow(/none\.pem cannot be read/)
  expect(() => connectionOf(config, undefined, { ca: file('no.pem', 'x') })).toThrow(/no certificate/)
  const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
  expect(() => connectionOf(config, undefined, { ca: file('broken.pem', broken) })).toThrow(
    /broken\.pem cannot be read/,
  )
})
