import { Redis } from 'ioredis'
import { expect, it, onTestFinished, vi } from 'vitest'
import { loadConfig } from '#platform/config.ts'
import { startRedis } from '#test/servers/redis.ts'
import { clocks } from './clocks.ts'
import { findingsOf, shortened } from './context.fixture.ts'
import { createContext } from './context.ts'
import { redis } from './redis.ts'
import { runChecks } from './run-checks.ts'

vi.setConfig({ testTimeout: 60_000 })

it('redis: well, then each fault in turn', async () => {
  await using server = await startRedis()
  const client = new Redis(server.url)
  onTestFinished(() => client.disconnect())
  const env = { REDIS_URL: server.url }
  const problems = async () => shortened(await findingsOf(redis, env)).filter((text) => !text.startsWith('ok'))
  expect(shortened(await findingsOf(redis, env))).toEqual([
    expect.stringMatching(/^ok: (Redis|Valkey) \d.*noeviction, no maxmemory/),
  ])

  await client.config('SET', 'maxmemory-policy', 'allkeys-lru')
  expect(await problems()).toEqual([
    expect.stringMatching(/^warn: maxmemory-policy allkeys-lru .*\| redis-cli .* volatile-ttl$/),
  ])
  await client.config('SET', 'maxmemory-policy', 'noeviction')
  await client.config('SET', 'maxmemory', String(1024 ** 2))
  expect(await problems()).toEqual([expect.stringMatching(/^fail: .* of 1 MB are used; when full, it refuses writes/)])
  await client.config('SET', 'maxmemory', '0')
  await client.replicaof('127.0.0.1', '1')
  expect(await problems()).toEqual([expect.stringMatching(/^fail: this is a replica/)])
  await client.replicaof('NO', 'ONE')
  expect(await problems()).toEqual([])

  expect(await findingsOf(clocks, env)).toMatchObject([{ verdict: 'ok' }])
  expect(await findingsOf(clocks, env, -5000)).toMatchObject([
    { verdict: 'warn', seen: expect.stringContaining('5.0 s ahead of') },
  ])
  expect(await findingsOf(clocks, env, 120_000)).toMatchObject([
    { verdict: 'fail', seen: expect.stringContaining('120.0 s behind') },
  ])

  await client.config('SET', 'requirepass', 'right-one')
  const wrong = { REDIS_URL: server.url.replace('redis://', 'redis://:wrong-one@') }
  const refused = shortened(await findingsOf(redis, wrong))
  expect(refused).toEqual([expect.stringMatching(/^fail: .*(WRONGPASS|NOAUTH|invalid)/i)])
  expect(refused.join(), 'no password in what is printed').not.toContain('wrong-one')
})

it('redis: frozen, gone', async () => {
  await using server = await startRedis()
  await using context = createContext(loadConfig({ BRIDGE_DATA_DIR: '/nonexistent', REDIS_URL: server.url }))
  using _frozen = server.pause()
  const frozen = await runChecks([redis, clocks], context)
  server.resume()
  expect(frozen.map(({ verdict }) => verdict)).toEqual(['fail', 'warn'])
  await server.kill()
  const gone = await findingsOf(redis, { REDIS_URL: server.url })
  expect(shortened(gone)).toEqual([expect.stringMatching(/^fail: .* does not answer: connect ECONNREFUSED/)])
  expect(gone[0]?.advice).toContain('REDIS_URL')
})
