import { expect, it } from 'vitest'
import { loadConfig } from './config.ts'
import { checkDatabaseSecret, checkStart, isLoopback } from './start-checks.ts'

const local = { BRIDGE_MQTT_HOST: '127.0.0.1', BRIDGE_HTTP_HOST: 'localhost' }

it.each([
  { BRIDGE_ADMIN_TOKEN: 'change-me-to-something-long' },
  { BRIDGE_ADMIN_TOKEN: 'CHANGEME-CHANGEME-CHANGEME' },
  { BRIDGE_ADMIN_TOKEN: 'your-admin-token-goes-here' },
  { BRIDGE_ADMIN_TOKEN: 'xxxxxxxxxxxxxxxxxxxxxxxx' },
  { BRIDGE_ADMIN_TOKEN: 'secret-secret-secret-secret' },
  { DATABASE_URL: 'postgres://fleetbridge:change-me@db/fleetbridge' },
  { DATABASE_URL: 'postgres://fleetbridge:change-me@127.0.0.1/fleetbridge' },
  { DATABASE_URL: 'postgres://postgres:postgres@db:5432/postgres' },
  { DATABASE_URL: 'postgres://fleetbridge:password@10.0.0.5/fleetbridge' },
  { DATABASE_URL: 'postgres://fleetbridge:fleetbridge@db/fleetbridge' },
  { REDIS_URL: 'redis://:changeme@redis:6379' },
] as Record<string, string>[])('%j is refused, but on loopback', (environment) => {
  const [name = '', value = ''] = Object.entries(environment)[0] ?? []
  const check = () => checkStart(loadConfig(environment))
  expect(check).toThrow(
    expect.objectContaining({ code: 'BRIDGE_CONFIG_INVALID', message: expect.stringContaining(name) }),
  )
  expect(check, 'the secret is not shown').not.toThrow(value)
  expect(() => checkStart(loadConfig({ ...environment, ...local }))).not.toThrow()
  expect(() => checkStart(loadConfig({ ...environment, ...local, BRIDGE_ADMIN_HOST: '10.0.0.1' }))).toThrow(name)
})

it.each([
  {},
  { DATABASE_URL: 'postgres://postgres:postgres@127.0.0.1:5432/postgres' },
  { DATABASE_URL: 'postgres://fleetbridge@db/fleetbridge' },
  { DATABASE_URL: 'postgres://fleetbridge:q8Zr%2Fchange-me@db/fleetbridge', REDIS_URL: 'redis://redis:6379' },
  { BRIDGE_ADMIN_TOKEN: '5b0c7e1f9a3d4e6f8a2b4c6d' },
  { DATABASE_URL: 'no url at all' },
] as Record<string, string>[])('%j is fine', (environment) => {
  expect(() => checkStart(loadConfig(environment))).not.toThrow()
})

it('refuses a configuration in which nothing listens', () => {
  const off = { BRIDGE_MQTT_PLAIN: 'false', BRIDGE_HTTP_PLAIN: 'false' }
  expect(() => checkStart(loadConfig(off))).toThrow('BRIDGE_TLS_CERT_FILE')
  expect(() => checkStart(loadConfig({ ...off, BRIDGE_TLS_CERT_FILE: 'a.crt' }))).not.toThrow()
  expect(() => checkStart(loadConfig({ BRIDGE_MQTT_PLAIN: 'false' }))).not.toThrow()
})

it.each(['127.0.0.1', '127.8.9.1', '::1', '[::1]', 'localhost', '::ffff:127.0.0.1'])('%s is loopback', (host) => {
  expect(isLoopback(host)).toBe(true)
})

it.each(['0.0.0.0', '::', '10.0.0.1', 'db', '127.0.0.1.example.com', ''])('%s is not', (host) => {
  expect(isLoopback(host)).toBe(false)
})

it.each([
  ['postgres://fleetbridge:change-me@127.0.0.1/fleetbridge', true],
  ['postgres://fleetbridge:password@db.example/fleetbridge', true],
  ['postgres://fleetbridge:fleetbridge@postgres/fleetbridge', true],
  ['postgres://postgres:postgres@localhost/fleetbridge', false],
  ['postgres://fleetbridge:f3a91c77ab02@db.example/fleetbridge', false],
  ['postgres://fleetbridge@db.example/fleetbridge', false],
])('a worker and init refuse a sample password of a database: %s', (DATABASE_URL, refused) => {
  const check = () => checkDatabaseSecret(loadConfig({ DATABASE_URL }))
  if (refused) expect(check).toThrow(/BRIDGE_CONFIG_INVALID|DATABASE_URL is a sample/)
  else expect(check).not.toThrow()
})
