import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { cString, pythonString } from '#cli/snippets/literals.ts'
import { type Program, programs, type SnippetFacts, snippetFor } from '#cli/snippets/snippet.ts'
import { hostileDevices, plainFacts, tlsFacts } from '#cli/snippets/testing/facts.ts'
import { arduinoHeaders, espIdfHeaders } from '#cli/snippets/testing/headers.ts'
import { quoted } from '#platform/shell-word.ts'
import { freePort } from '#test/servers/free-port.ts'
import { needProgram } from '#test/servers/server-process.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'

const execute = promisify(execFile)
let folder: string

beforeAll(async () => {
  for (const program of ['gcc', 'g++', 'python3', 'curl'])
    await needProgram(program, ['version'], `apt-get install -y ${program === 'gcc' ? 'gcc libc6-dev' : program}`)
  folder = await mkdtemp(join(tmpdir(), 'fleetbridge-snippets-'))
  for (const [name, text] of [...Object.entries(espIdfHeaders), ...Object.entries(arduinoHeaders)]) {
    const path = join(folder, name in espIdfHeaders ? 'esp-idf' : 'arduino', name)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, text)
  }
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** Fails with what the tool says, which names the line. */
const checks: Record<Program, (path: string) => Promise<unknown>> = {
  'esp-idf': (path) =>
    execute('gcc', [...warnings, '-std=gnu17', '-Wno-missing-field-initializers', '-I', join(folder, 'esp-idf'), path]),
  arduino: (path) =>
    execute('g++', [...warnings, '-std=gnu++17', '-I', join(folder, 'arduino'), '-include', 'Arduino.h', path]),
  micropython: (path) => execute('python3', ['-m', 'py_compile', path]),
  python: (path) => execute('python3', ['-W', 'error', '-m', 'py_compile', path]),
  curl: (path) => execute('sh', ['-n', path]),
}
const warnings = ['-fsyntax-only', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter']
const suffixes: Record<Program, string> = {
  'esp-idf': 'c',
  arduino: 'cpp',
  micropython: 'py',
  python: 'py',
  curl: 'sh',
}

async function check(platform: Program, facts: SnippetFacts): Promise<void> {
  const path = join(folder, `program.${suffixes[platform]}`)
  await writeFile(path, snippetFor(platform, facts))
  await checks[platform](path)
}

it.each(programs)(
  '%s: its own tool takes the program, plain, with TLS, and for a device of any name',
  async (platform) => {
    await check(platform, plainFacts)
    await check(platform, tlsFacts)
    const { ca: _ca, ...known } = tlsFacts
    if (platform !== 'arduino' && platform !== 'micropython') await check(platform, known)
    // One compiler run for all names: a run for each would take longer than it tells.
    await check(platform, { ...plainFacts, device: hostileDevices.join(' ') })
  },
)

it('the check of a program can fail', async () => {
  const path = join(folder, 'broken.c')
  await writeFile(path, snippetFor('esp-idf', plainFacts).replace('.session.keepalive', '.session.keep_alive'))
  await expect(checks['esp-idf'](path)).rejects.toThrow(/keep_alive/)
})

it('a literal means what was put into it, in each language', async () => {
  const wanted = hostileDevices.join('\n')
  const c = `#include <stdio.h>\nint main(void) { ${hostileDevices.map((device) => `puts(${cString(device)});`).join(' ')} }`
  await writeFile(join(folder, 'literal.c'), c)
  await execute('gcc', ['-std=c99', '-o', join(folder, 'literal'), join(folder, 'literal.c')])
  expect((await execute(join(folder, 'literal'))).stdout.trimEnd()).toBe(wanted)
  const python = `import sys\nsys.stdout.reconfigure(encoding="utf-8")\n${hostileDevices.map((device) => `print(${pythonString(device)})`).join('\n')}`
  expect((await execute('python3', ['-c', python])).stdout.trimEnd()).toBe(wanted)
  const shell = hostileDevices.map((device) => `printf '%s\\n' ${quoted(device)}`).join('\n')
  expect((await execute('sh', ['-c', shell])).stdout.trimEnd()).toBe(wanted)
})

it('devices add --for: programs that work as they are', { timeout: 90_000 }, async () => {
  const dataDir = join(folder, 'data')
  const [mqttPort, httpPort] = [await freePort(), await freePort()]
  const env = {
    BRIDGE_DATA_DIR: dataDir,
    BRIDGE_MQTT_PORT: String(mqttPort),
    BRIDGE_HTTP_PORT: String(httpPort),
    BRIDGE_OPS_PORT: '0',
    BRIDGE_POSTGRES_PORT: '0',
  }
  await using instance = new BridgeProcess(['up'], env)
  await instance.until('it waits for a message', () => instance.output.includes('waiting for the first message'))

  // By `sh`, as it was printed.
  const path = join(folder, 'device.sh')
  await writeFile(path, await run(['devices', 'add', "it's $HOME", '--for', 'curl', '--host', 'localhost'], env))
  expect(JSON.parse((await execute('sh', [path], { timeout: 30_000 })).stdout)).toMatchObject({ accepted: 1 })
  const rows = await run(['sql', '--json', `SELECT device, value, clock FROM telemetry`], env)
  expect(JSON.parse(rows)).toEqual([{ device: "it's $HOME", value: 21.5, clock: 0 }])

  const made = JSON.parse(await run(['devices', 'add', '--count', '2', '--for', 'python', '--json'], env)) as {
    device: string
    token: string
    snippet: string
  }[]
  expect(made.map(({ device }) => device)).toEqual(['device-1', 'device-2'])
  for (const { token, snippet } of made) {
    expect(snippet).toContain(`PORT = ${mqttPort}`)
    expect(snippet).toContain(`TOKEN = "${token}"`)
  }
})
