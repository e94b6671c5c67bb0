import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { freePort, needProgram } from '#test/servers/server-process.ts'
import { BridgeProcess } from '#test/stack/process.ts'

const checkout = fileURLToPath(new URL('../..', import.meta.url))
let dataDir: string
let instance: BridgeProcess
let env: NodeJS.ProcessEnv
const ports = { mqtt: 0, http: 0 }

beforeAll(async () => {
  await needProgram('mosquitto_pub', ['--help'], 'apt-get install -y mosquitto-clients')
  dataDir = await mkdtemp(join(tmpdir(), 'fleetbridge-readme-'))
  ports.mqtt = await freePort()
  ports.http = await freePort()
  env = {
    BRIDGE_DATA_DIR: dataDir,
    BRIDGE_MQTT_PORT: String(ports.mqtt),
    BRIDGE_HTTP_PORT: String(ports.http),
    BRIDGE_OPS_PORT: '0',
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

/** The lines of the README as they stand, but for the ports; one shell, since the first sets a variable for the rest. */
async function linesOf(section: string): Promise<string> {
  const readme = await readFile(join(checkout, 'README.md'), 'utf8')
  const text = readme.split(/^## /m).find((part) => part.startsWith(section)) ?? ''
  const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, lines]) => lines ?? '')
  expect(blocks.length, `blocks of shell lines under "${section}"`).toBeGreaterThan(0)
  return blocks
    .join('')
    .replaceAll('-p 1883', `-p ${ports.mqtt}`)
    .replaceAll('localhost:8080', `localhost:${ports.http}`)
}

it("the README's first message: its lines as written give two rows", async () => {
  const lines = await linesOf('A first message')
  const path = `${dirname(process.execPath)}:${join(checkout, 'node_modules/.bin')}:${process.env.PATH}`
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', lines], {
    cwd: checkout,
    env: { ...process.env, ...env, PATH: path, npm_config_offline: 'true' },
    timeout: 60_000,
  })
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

it('every page that the README links to exists', async () => {
  const readme = await readFile(join(checkout, 'README.md'), 'utf8')
  for (const [, target] of readme.matchAll(/\]\(([^)#]+)\)/g))
    await readFile(join(checkout, target as string)).catch((error: NodeJS.ErrnoException) =>
      expect(error.code, target).toBe('EISDIR'),
    )
})
