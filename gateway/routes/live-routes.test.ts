import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createMetrics } from '#platform/metrics.ts'
import { readTable, startRoutes } from './live-routes.ts'

let folder: string
let path: string
let logged: string
const write = (text: string) => writeFileSync(path, text)
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fleetbridge-routes-'))
  path = join(folder, 'fleetbridge.yaml')
  logged = ''
})
afterEach(() => rmSync(folder, { recursive: true }))

async function start(environment: NodeJS.ProcessEnv = { BRIDGE_CONFIG: path }) {
  const metrics = createMetrics('test')
  const log = pino(
    { level: 'info' },
    new Writable({
      write(line: Buffer, _encoding, done) {
        logged += line.toString()
        done()
      },
    }),
  )
  const routes = await startRoutes({ environment, log, metrics, pollMs: 10 })
  const codecOf = (topic: string) =>
    routes.find({ source: 'mqtt', topic, contentType: undefined, principal: { tenant: 'default' } })?.rule.codec?.name
  const text = async () =>
    `${await metrics.registry.getSingleMetricAsString('fleetbridge_route_reloads_total')}${await metrics.registry.getSingleMetricAsString('fleetbridge_routes')}`
  return { routes, codecOf, text, [Symbol.asyncDispose]: () => routes.close() }
}

it('follows its file; a bad table is refused and told, and the one before stays', async () => {
  write('routes:\n  - { topic: a, codec: seed }\n')
  await using started = await start()
  expect(started.codecOf('a')).toBe('seed')
  write('routes:\n  - { topic: a, codec: tasmota }\n  - { topic: b, codec: own }\n')
  await vi.waitFor(() => expect(started.codecOf('a')).toBe('tasmota'), 5000)
  write('routes:\n  - { topic: a, codec: nonsense }\n')
  await vi.waitFor(() => expect(logged).toContain('line 2: there is no codec'), 5000)
  expect(started.codecOf('a')).toBe('tasmota')
  rmSync(path)
  await vi.waitFor(() => expect(logged).toContain('cannot be read'), 5000)
  expect(started.codecOf('b'), 'a file that is gone is no empty table').toBe('own')
  const text = await started.text()
  expect(text).toContain('fleetbridge_route_reloads_total{result="accepted"} 1')
  expect(text).toContain('fleetbridge_route_reloads_total{result="refused"} 2')
  expect(text).toMatch(/fleetbridge_routes 2/)
})

it('is read again when it is asked to', async () => {
  write('routes: []')
  await using started = await start()
  write('- { topic: a, codec: own }')
  await started.routes.reload()
  expect(started.codecOf('a')).toBe('own')
  write('- { topic: }')
  await started.routes.reload()
  expect(started.codecOf('a')).toBe('own')
  expect(logged).toContain('the one before stays')
})

it('a start with a bad table fails and lists all of it; none is no fault', async () => {
  write('routes:\n  - { topic: a, codec: x }\n  - { topic: b, codec: y }\n')
  await expect(start()).rejects.toThrow(/2 problems:\n.*line 2.*"x"[\s\S]*line 3.*"y"/)
  await expect(start({ BRIDGE_CONFIG: join(folder, 'absent.yaml') })).rejects.toThrow(/cannot be read/)
  await using empty = await start({})
  expect(empty.routes.size).toBe(0)
})

it('the environment comes before the file', async () => {
  write('routes:\n  - { topic: a, codec: seed }\n')
  await using started = await start({ BRIDGE_CONFIG: path, BRIDGE_ROUTES: '[{"topic":"a","codec":"own"}]' })
  expect(started.codecOf('a')).toBe('own')
  await started.routes.reload()
  expect(started.codecOf('a')).toBe('own')
})

it('a file of its own, as decode takes it', async () => {
  write('- { topic: a, codec: homie }')
  expect((await readTable({}, path)).size).toBe(1)
})
