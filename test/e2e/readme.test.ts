import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { needProgram } from '#test/servers/server-process.ts'
import { BridgeProcess } from '#test/stack/process.ts'

const checkout = fileURLToPath(new URL('../..', import.meta.url))
let dataDir: string
let instance: BridgeProcess
let env: NodeJS.ProcessEnv
const ports = { mqtt: 0, http: 0, admin: 0 }

beforeAll(async () => {
  await needProgram('mosquitto_pub', ['--help'], 'apt-get install -y mosquitto-clients')
  dataDir = await mkdtemp(join(tmpdir(), 'fleetbridge-readme-'))
  ports.mqtt = await freePort()
  ports.http = await freePort()
  ports.admin = await freePort()
  env = {
    BRIDGE_DATA_DIR: dataDir,
    BRIDGE_MQTT_PORT: String(ports.mqtt),
    BRIDGE_HTTP_PORT: String(ports.http),
    BRIDGE_OPS_PORT: '0',
    BRIDGE_ADMIN_PORT: String(ports.admin),
  }
  instance = new BridgeProcess(['up'], env)
  await instance.until('the instance waits for a message', () =>
    instance.output.includes('waiting for the first message'),
  )
})
afterAll(async () => {
  await instance?.[Symbol.asyncDispose]()
  await rm(dataDir, { recursive: true, force: true })
})

/** The shell lines of a page as they stand, but for the ports and the device's name; one shell, since the first sets a variable for the rest. */
async function linesOf(page: string, device: string, section = ''): Promise<string> {
  const markdown = await readFile(join(checkout, page), 'utf8')
  const text = markdown.split(/^## /m).find((part) => part.startsWith(section)) ?? ''
  const blocks = [...(section === '' ? markdown : text).matchAll(/```sh\n([\s\S]*?)```/g)].map(
    ([, lines]) => lines ?? '',
  )
  expect(blocks.length, `blocks of shell lines in ${page}`).toBeGreaterThan(0)
  return blocks
    .join('')
    .replace(/-h localhost( -p 1883)?/g, `-h localhost -p ${ports.mqtt}`)
    .replaceAll('localhost:8080', `localhost:${ports.http}`)
    .replaceAll('localhost:8082', `localhost:${ports.admin}`)
    .replaceAll('/tmp/', `${dataDir}/`)
    .replaceAll('pump-1', device)
}

async function shell(lines: string): Promise<string> {
  const path = `${dirname(process.execPath)}:${join(checkout, 'node_modules/.bin')}:${process.env.PATH}`
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', lines], {
    cwd: checkout,
    env: { ...process.env, ...env, PATH: path, npm_config_offline: 'true' },
    timeout: 240_000,
  })
  return stdout
}

it("the README's first message: its lines as written give two rows", async () => {
  const stdout = await shell(await linesOf('README.md', 'pump-1', 'A first message'))
  expect(stdout).toContain('"accepted":1')
  expect(stdout).toMatch(/pump-1 +temperature +21\.5/)
  expect(stdout).toMatch(/pump-1 +temperature +21\.6/)
  expect(stdout).toContain('(2 rows)')
  // The first of them became the row that the instance prints, with its milliseconds.
  await instance.until(
    'the first row is printed',
    () => /21\.5/.test(instance.output) && /\d+(\.\d+)? ms/.test(instance.output),
  )
})

it('docs/http.md: its lines as written are answered as it says', async () => {
  const stdout = await shell(await linesOf('docs/http.md', 'page-http'))
  const answers = stdout.match(/\{"accepted":\d+/g)
  expect(answers).toEqual([
    '{"accepted":1',
    '{"accepted":1',
    '{"accepted":2',
    '{"accepted":2',
    '{"accepted":2',
    '{"accepted":1', // by its Idempotency-Key
    '{"accepted":1',
  ])
  expect(stdout).toContain('{"index":1,"status":400,"code":"bad_value"')
  const rows = await shell(
    `npx fleetbridge sql "SELECT device, metric, value FROM telemetry WHERE metric = 'n' ORDER BY value"`,
  )
  for (const value of [1, 3, 4, 5, 6, 7, 8, 9]) expect(rows).toMatch(new RegExp(` n +${value}`))
  expect(stdout.match(/204$/gm)).toHaveLength(3)
  const lines = await shell(
    `npx fleetbridge sql "SELECT metric, value, flag FROM telemetry WHERE device = 'page-http' AND metric LIKE 'boiler.%'"`,
  )
  for (const row of [/temperature,room=cellar +61\.5/, /on,room=cellar .*true/, /flow +7/]) expect(lines).toMatch(row)
})

it('docs/mqtt.md: its lines as written work', async () => {
  const token = (await shell('npx fleetbridge devices add page-mqtt')).trim()
  const lines = (await linesOf('docs/mqtt.md', 'page-mqtt')).replace(
    /^mosquitto_sub (.*)$/gm,
    '! timeout 1 mosquitto_sub -d $1',
  )
  // A subscriber waits until it is stopped; what counts is that it was let in.
  expect((await shell(`TOKEN=${token}\n${lines}`)).match(/SUBACK/g)).toHaveLength(2)
  const rows = await shell(`npx fleetbridge sql "SELECT metric, value, unit FROM telemetry WHERE device = 'page-mqtt'"`)
  expect(rows).toMatch(/temperature +21\.5 +Cel/)
})

it('docs/devices/mosquitto.md and tasmota.md: their lines as written give rows', { timeout: 90_000 }, async () => {
  await shell(await linesOf('docs/devices/mosquitto.md', 'page-mosquitto'))
  await shell(await linesOf('docs/devices/tasmota.md', 'page-tasmota'))
  const rows = async (device: string) =>
    await shell(
      `npx fleetbridge sql "SELECT metric, value, unit, flag, text FROM telemetry WHERE device = '${device}'"`,
    )
  expect(await rows('page-mosquitto')).toMatch(/temperature +21\.5 +Cel[\s\S]*running +true/)
  // It publishes with QoS 0: the row may come a moment after the program has ended.
  await expect.poll(() => rows('plug-1'), { timeout: 20_000 }).toMatch(/AM2301\.Humidity +48\.2 +%RH/)
})

it('docs/admin.md: its lines as written work', { timeout: 270_000 }, async () => {
  const stdout = await shell(await linesOf('docs/admin.md', 'page-admin'))
  expect(stdout).toMatch(/revoked [3-9]/)
  expect(stdout).toContain('{"name":"me","role":"admin"}')
  expect(stdout).toContain('{"changed":true}')
  expect(stdout).toMatch(/admin:me +device\.disable +default +pump-21/)
  const tokens = await readFile(join(dataDir, 'tokens.csv'), 'utf8')
  expect(tokens).toMatch(/^device,token\n\S+1,fb_[\w-]{43}\n\S+2,fb_[\w-]{43}\n$/)
})

it('every page that the README links to exists', async () => {
  const readme = await readFile(join(checkout, 'README.md'), 'utf8')
  for (const [, target] of readme.matchAll(/\]\(([^)#]+)\)/g))
    await readFile(join(checkout, target as string)).catch((error: NodeJS.ErrnoException) =>
      expect(error.code, target).toBe('EISDIR'),
    )
})
