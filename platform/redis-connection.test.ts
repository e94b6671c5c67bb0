import { expect, it } from 'vitest'
import { addressOf, createRedis } from './redis-connection.ts'

it.each([
  'redis://:secret@[nowhere',
  'redis://:secret/secret@host:6379', // without the refusal, the log would look for a host of this name
  'redis://:p@secret/secret@host:6379',
  'redis://:secret#secret@host:6379',
  'redis://secret:1?secret@host:6379',
  'redis://host:6379/secret',
  'redis://host:99999/secret',
  'http://secret@host',
  'REDISS://:secret@host:6379', // ioredis would speak without TLS
  'secret',
])('%s is refused without being repeated', (url) => {
  let error: unknown
  try {
    createRedis(url)
  } catch (thrown) {
    error = thrown
  }
  expect(error).toMatchObject({ code: 'BRIDGE_CONFIG_INVALID', cause: undefined })
  expect((error as Error).message).toContain('REDIS_URL')
  expect((error as Error).message).not.toContain('secret')
})

it.each([
  ['redis://localhost', 'localhost:6379/0'],
  ['redis://:s%2Fe%40cret@10.0.0.1:7000/3', '10.0.0.1:7000/3'],
  ['rediss://user:secret@[::1]:6380', '::1:6380/0'],
  ['redis://host/?family=6', 'host:6379/0'],
  ['/run/redis/redis.sock', '/run/redis/redis.sock'],
])('%s is at %s', (url, address) => {
  expect(addressOf(createRedis(url))).toBe(address)
})
