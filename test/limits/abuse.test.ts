import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { addDevices } from '#gateway/admin/registry/devices.ts'
import type { Report } from '#simulator/report.ts'
import { simulate } from '#simulator/simulate.ts'
import { freePort } from '#test/servers/free-port.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { BridgeProcess } from '#test/stack/process.ts'

const cleanUp = new AsyncDisposableStack()
const by = { actor: 'cli:test', makesTenants: false }
let port: number
let opsPort: number
let pool: pg.Pool
let up: BridgeProcess

beforeAll(async () => {
  const { url } = cleanUp.use(await migratedDatabase())
  const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-abuse-'))
  cleanUp.defer(() => rmSync(dir, { recursive: true, force: true }))
  ;[port, opsPort] = [await freePort(), await freePort()]
  up = cleanUp.use(
    new BridgeProcess(['up'], {
      DATABASE_URL: url,
      BRIDGE_DATA_DIR: join(dir, 'data'),
      BRIDGE_MQTT_PORT: String(port),
      BRIDGE_HTTP_PORT: '0',
      BRIDGE_OPS_PORT: String(opsPort),
      BRIDGE_LIMITS_DEVICE: '5:1',
      BRIDGE_MQTT_HOLD_MS: '1000',
    }),
  )
  await up.until('it waits for messages', () => up.output.includes('waiting for the first message'))
  pool = new pg.Pool({ connectionString: url, max: 2 })
  cleanUp.defer(() => pool.end())
}, 60_000)
afterAll(() => cleanUp.disposeAsync())

async function fleetOf(prefix: string, count: number) {
  const client = await pool.connect()
  try {
    const devices = Array.from({ length: count }, (_, index) => ({ device: `${prefix}${index + 1}` }))
    return await addDevices(client, by, 'default', devices)
  } finally {
    client.release()
  }
}

function send(runId: string, logins: Awaited<ReturnType<typeof fleetOf>>, rate: number): Promise<Report> {
  return simulate({
    runId,
    protocol: 'mqtt',
    host: '127.0.0.1',
    port,
    rate,
    durationMs: 8000,
    logins,
    readings: 1,
    qos: 1,
    protocolVersion: 4,
    seed: 1,
    pool,
    connectMs: 30_000,
    drainMs: 4000,
    settleMs: 30_000,
    signal: new AbortController().signal,
  })
}

async function counter(series: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${opsPort}/metrics`)).text()
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(series))
      ?.split(' ')[1] ?? Number.NaN,
  )
}

it('a device that floods is held, closed and let in again, and what it was told is stored is; the others go on', async () => {
  const [others, flooder] = [await fleetOf('other-', 50), await fleetOf('flooder-', 1)]
  const [quiet, flood] = await Promise.all([send('others', others, 50), send('flood', flooder, 3000)])
  expect(quiet).toMatchObject({ refused: 0, unacked: 0, reconnects: 0, missing: 0, doubled: 0 })
  expect(quiet.acked).toBe(quiet.due)
  expect(flood).toMatchObject({ refused: 0, missing: 0, doubled: 0 })
  expect(flood.acked, 'what its limit lets pass').toBeGreaterThan(5)
  expect(flood.acked).toBeLessThan(200)
  const closed = await counter('fleetbridge_mqtt_closed_total{reason="rate_limited"}')
  expect(closed, 'it is closed').toBeGreaterThan(0)
  // Each time it comes back it is told to wait; without that it would have come back every 0.1 s.
  expect(closed, 'its re-entry is paced').toBeLessThan(15)
  expect(flood.reconnects, 'it is let in again').toBeGreaterThan(0)
  expect(await counter('fleetbridge_limit_stopped_messages_total{limit="device"}')).toBeGreaterThan(0)
  expect(up.output, 'an operator can see who it is').toMatch(/"device":"flooder-1","limit":"device"/)
  expect(up.output).not.toMatch(/"device":"other-\d+","limit"/)
}, 90_000)
