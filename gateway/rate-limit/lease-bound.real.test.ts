import { fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type RedisServer, startRedis } from '#test/servers/redis.ts'
import { leaseSize } from './lease.ts'
import type { Admitted, FloodOptions } from './lease-bound.child.ts'
import { rulesOf } from './limits.ts'
import { limitsOf, newTenant } from './rate-limiter.contract.ts'

let server: RedisServer

beforeAll(async () => {
  server = await startRedis()
})

afterAll(() => server.close())

async function floodFrom(options: FloodOptions): Promise<Admitted[]> {
  const child = fork(fileURLToPath(new URL('./lease-bound.child.ts', import.meta.url)), [JSON.stringify(options)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const [{ admitted }] = (await once(child, 'message')) as [{ admitted: Admitted[] }]
  await once(child, 'exit')
  return admitted
}

it('three gateways admit no more than burst + rate · w + gateways · lease in any window, and little less than the limit', {
  timeout: 60_000,
}, async () => {
  const seed = randomInt(2 ** 31 - 3)
  console.info(`seed ${seed}`)
  const limits = { device: '60:1', deviceBytes: '4000:1', tenant: '200:1,240:2' }
  const [tenant, gateways, devices, durationMs] = [newTenant(), 3, 4, 6000]
  const options = { url: server.url, limits, tenant, devices, durationMs }
  const all = await Promise.all(
    Array.from({ length: gateways }, (_, index) => floodFrom({ ...options, seed: seed + index })),
  )
  for (const [index, admitted] of all.entries())
    expect(admitted.length, `gateway ${index} of seed ${seed} took part`).toBeGreaterThan(50)
  const merged = all.flat().sort((one, other) => one.toMs - other.toMs)
  for (const { owner, quantity, burst, seconds } of rulesOf(limitsOf(limits))) {
    const perMs = burst / seconds / 1000
    const kind = quantity as 'messages' | 'bytes'
    const payers = owner === 'tenant' ? [undefined] : Array.from({ length: devices }, (_, index) => `pump-${index}`)
    for (const payer of payers) {
      const mine = merged.filter(({ device }) => payer === undefined || device === payer)
      for (const { fromMs } of mine) {
        let sum = 0
        let largest: number = burst // one that is above the burst passes from a full bucket
        for (const one of mine) {
          if (one.fromMs < fromMs) continue
          sum += one[kind]
          largest = Math.max(largest, one[kind])
          const bound = largest + perMs * (one.toMs - fromMs) + gateways * leaseSize({ burst })
          if (sum > bound + 0.01)
            expect.fail(`seed ${seed}: ${sum} ${kind} of ${payer ?? 'the tenant'} in ${one.toMs - fromMs} ms`)
        }
      }
    }
  }
  const spanMs = (merged.at(-1)?.toMs ?? 0) - (merged[0]?.fromMs ?? 0)
  expect(merged.length, `seed ${seed}: of what 240:2 allows`).toBeGreaterThan(0.8 * (240 + 0.12 * spanMs))
})
