import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
let folder: string
let env: NodeJS.ProcessEnv
let instance: BridgeProcess
let mqttPort: number

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fleetbridge-mqtt-benchmark-'))
  mqttPort = await freePort()
  env = { BRIDGE_DATA_DIR: join(folder, 'data'), BRIDGE_MQTT_PORT: String(mqttPort), BRIDGE_HTTP_PORT: '0' }
  instance = new BridgeProcess(['up'], { ...env, BRIDGE_OPS_PORT: '0' })
  await instance.until('it waits for a message', () => instance.output.includes('waiting for the first message'))
  const tool = join(folder, 'mqtt-benchmark')
  await writeFile(tool, `#!/bin/sh\nexec "${process.execPath}" "${here('testing/stand-in.ts')}" "$@"\n`)
  await chmod(tool, 0o755)
  env.MQTT_BENCHMARK = tool
})
afterAll(async () => {
  await instance?.[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

function script(name: string, args: readonly string[], more: NodeJS.ProcessEnv = {}) {
  const { DATABASE_URL: _, ...outer } = process.env
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(
      here(name),
      ['--out', join(folder, 'out'), ...args],
      { env: { ...outer, ...env, ...more } },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    )
  })
}

const results = async () => JSON.parse(await readFile(join(folder, 'out/mqtt-benchmark.json'), 'utf8')).measured

it('run: devices of its own, rows counted, CPU of the processes, JSON and Markdown', async () => {
  const ended = await script('run', ['--clients', '5', '--count', '4', '--devices', '2', '--rounds', '1'])
  expect(ended).toMatchObject({ code: 0 })
  expect(await results()).toMatchObject([{ acknowledged: 20, failed: 0, rows: 20, target: 'fleetbridge' }])
  expect(Object.keys((await results())[0].cpuUs)).toEqual(['fleetbridge', 'postgres'])
  expect(ended.stdout).toContain('| fleetbridge | 5 | 1 | 100 | at once |')
  expect(await readFile(join(folder, 'out/mqtt-benchmark.md'), 'utf8')).toBe(ended.stdout)
})

it('sweep: every combination', async () => {
  const args = [
    '--clients',
    '1,2',
    '--qos',
    '0,2',
    '--size',
    '50,60',
    '--count',
    '2',
    '--rounds',
    '1',
    '--devices',
    '1',
  ]
  expect((await script('sweep', args)).code).toBe(0)
  const measured = await results()
  expect(measured.map(({ setting }: { setting: object }) => Object.values(setting).join())).toHaveLength(8)
  for (const { rows, acknowledged } of measured) expect(rows).toBe(acknowledged)
})

it('compare: both sides by turns, and their ratio', async () => {
  const [peer] = JSON.parse(await run(['devices', 'add', 'peer', '--json'], env)) as { token: string }[]
  const ended = await script('compare', [
    ...['--with', `tcp://127.0.0.1:${mqttPort}`, '--with-username', 'peer', '--with-password', peer?.token ?? ''],
    ...['--with-pid', `peer=${instance.pid}`, '--clients', '2', '--count', '2', '--rounds', '2', '--devices', '1'],
  ])
  expect(ended).toMatchObject({ code: 0 })
  expect(await results()).toMatchObject([
    { target: 'fleetbridge', rows: 4 },
    { target: `tcp://127.0.0.1:${mqttPort}`, rows: null },
  ])
  expect(ended.stdout).toMatch(/fleetbridge takes [\d.]+ times the messages a second of tcp:/)
})

it('fails when an acknowledged message has no row', async () => {
  const args = ['--clients', '1', '--count', '2', '--devices', '1', '--rounds', '1']
  const ended = await script('run', args, { STAND_IN_LIES: '1' })
  expect(ended.code).toBe(1)
  expect(ended.stderr).toContain('10 acknowledged messages have no row')
})

it('says how to install the tool when it is absent', async () => {
  const ended = await script('run', [], { MQTT_BENCHMARK: join(folder, 'absent'), PATH: '/usr/bin:/bin' })
  expect(ended.code).toBe(2)
  expect(ended.stderr).toContain('go install github.com/krylovsk/mqtt-benchmark@main')
})
