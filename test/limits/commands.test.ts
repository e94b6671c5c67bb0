import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

const page = readFileSync(new URL('../../docs/limits.md', import.meta.url), 'utf8')
/** The lines of the page's section on overrides, as one pastes them. */
const commands = (/## Overrides[\s\S]+?```sh\n([\s\S]+?)```/.exec(page)?.[1] ?? '')
  .trim()
  .split('\n')
  .map((line) => line.replace('npx fleetbridge ', '').split(' '))

const cleanUp = new AsyncDisposableStack()
let env: NodeJS.ProcessEnv

beforeAll(async () => {
  const { url } = cleanUp.use(await migratedDatabase())
  const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-limits-'))
  cleanUp.defer(() => rmSync(dir, { recursive: true, force: true }))
  env = {
    DATABASE_URL: url,
    BRIDGE_DATA_DIR: dir,
    BRIDGE_MQTT_PORT: String(await freePort()),
    BRIDGE_HTTP_PORT: '0',
    BRIDGE_OPS_PORT: '0',
    BRIDGE_LOG_LEVEL: 'warn',
  }
  const up = cleanUp.use(new BridgeProcess(['up'], { ...env, BRIDGE_ADMIN_PORT: '0' }))
  await up.until('it waits for messages', () => up.output.includes('waiting for the first message'))
}, 60_000)
afterAll(() => cleanUp.disposeAsync())

it('the commands of docs/limits.md work as they are, and show tells where each limit comes from', async () => {
  expect(commands.length).toBeGreaterThan(5)
  const printed = new Map<string, string>()
  for (const args of commands) printed.set(args.slice(0, 2).join(' '), await run(args, env))
  expect(printed.get('limits list')).toMatch(/device pump-1 +device +10:1/)
  expect(printed.get('limits list')).toMatch(/type pump +deviceReadings +1000:1,20000:60/)
  expect(printed.get('limits list')).toMatch(/tenant default +tenant +5000:1/)
  expect(printed.get('limits show')).toMatch(/device +10 in 1 s +device +10 +now/)
  expect(printed.get('limits show')).toMatch(/tenant +5000 in 1 s +tenant +5000 +now/)
  expect(printed.get('limits unset')).toBe('unset: device for device pump-1\n')
  const client = new pg.Client(env.DATABASE_URL)
  await client.connect()
  await client.query(`UPDATE device SET type = 'pump' WHERE external_id = 'pump-1'`)
  await client.end()
  await expect
    .poll(() => run(['limits', 'show', 'pump-1'], env), { timeout: 15_000 })
    .toMatch(/device_readings +20000 in 60 s +type +20000 +now/)
  await expect
    .poll(async () => JSON.parse(await run(['limits', 'show', 'pump-1', '--json'], env)).limits, { timeout: 15_000 })
    .toContainEqual(
      expect.objectContaining({ limit: 'device', setting: 'device', windows: '1000:1', from: 'configuration' }),
    )
}, 90_000)

it('says what is wrong', async () => {
  await expect(run(['limits', 'set', 'devices', '1:1'], env)).rejects.toThrow(/ended with 2[\s\S]+There are: device, /)
  await expect(run(['limits', 'set', 'tenant', '1:1', '--type', 'pump'], env)).rejects.toThrow(/whole tenant/)
  await expect(run(['limits', 'show', 'nobody'], env)).rejects.toThrow(/has no device "nobody"/)
  const elsewhere = { DATABASE_URL: env.DATABASE_URL, BRIDGE_DATA_DIR: tmpdir(), BRIDGE_ADMIN_PORT: '1' }
  await expect(run(['limits', 'show', 'pump-1'], elsewhere)).rejects.toThrow(/BRIDGE_ADMIN_TOKEN/)
  const away = { ...elsewhere, BRIDGE_ADMIN_TOKEN: 'x'.repeat(40) }
  await expect(run(['limits', 'show', 'pump-1'], away)).rejects.toThrow(/no gateway answers at http:\/\/localhost:1/)
}, 60_000)
