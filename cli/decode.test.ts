import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { codecs } from '#gateway/normalize/codecs.ts'
import { createCodecsCommand, noteOf } from './codecs.ts'
import { createDecodeCommand } from './decode.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'decode-'))
})
afterAll(() => rmSync(folder, { recursive: true }))
afterEach(() => {
  process.exitCode = undefined
})

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

async function output(
  command: { parseAsync(words: string[], from: { from: 'user' }): Promise<unknown> },
  ...words: string[]
) {
  const written: string[] = []
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  vi.spyOn(process.stdout, 'write').mockImplementation((text, done?: unknown) => {
    written.push(String(text))
    if (typeof done === 'function') done()
    return true
  })
  await command.parseAsync(words, { from: 'user' })
  return written.join('')
}

const decode = (...words: string[]) => output(createDecodeCommand(), ...words)
const example = (id: string, expected: unknown) => ({
  id,
  transport: 'mqtt',
  topic: 'devices/d/telemetry',
  payload_utf8: '{"a":1,"b":-0}',
  expect: expected,
})
const readings = [
  { device: 'd', metric: 'b', value: 0, unit: null, ts: null },
  { device: 'd', metric: 'a', value: 1, unit: null, ts: null },
]

describe('decode', () => {
  it('prints readings, or the code of the error', async () => {
    const path = file('own.json', '{"ts":1700000000000.5,"values":{"t":{"value":21.5,"unit":"C"}}}')
    expect(JSON.parse(await decode('--topic', 'devices/pump-1/telemetry', path))).toEqual({
      readings: [{ device: 'pump-1', metric: 't', value: 21.5, unit: 'Cel', ts: '2023-11-14T22:13:20.000500Z' }],
    })
    expect(await decode('--path', '/v1/telemetry', path)).toBe('{"error":"no_device"}\n')
    expect(JSON.parse(await decode('--path', '/v1/telemetry', '--client-id', 'x', path))).toMatchObject({
      readings: [{ device: 'x' }],
    })
  })

  it('knows content types and headers', async () => {
    const path = file('m.cbor', new Uint8Array([0xa1, 0x61, 0x61, 0x01]))
    const words = ['--path', '/v1/telemetry', '--client-id', 'x', path]
    expect(await decode('--content-type', 'application/cbor', ...words)).toContain('"metric":"a"')
    expect(await decode('--header', 'Content-Type: application/cbor', ...words)).toContain('"metric":"a"')
    const place = file('place.json', '{"_type":"lwt"}')
    expect(
      await decode('--path', '/pub', '--header', 'X-Limit-U: jane', '--header', 'x-limit-d:phone', place),
    ).toContain('"device":"jane/phone"')
  })

  it.each([
    [[]],
    [['--topic', 'a', '--path', '/b', 'x']],
    [['--topic', 'a', '/no/such/file']],
    [['--topic', 'a', '--header', 'x', '/dev/null']],
    [['--cases', '/dev/null']],
  ])('%j says what is wrong', async (words) => {
    await expect(decode(...words)).rejects.toMatchObject({ code: 'BRIDGE_USAGE' })
  })
})

describe('decode --cases', () => {
  it('passes, whatever the order of readings', async () => {
    const path = file('good.json', JSON.stringify([example('x', { readings })]))
    expect(await decode('--cases', path, path)).toBe('2 passed, 0 failed\n')
    expect(process.exitCode).toBeUndefined()
  })

  it('has a line for each failure, and exits 1', async () => {
    const wrong = [{ ...readings[0], value: 2 }, readings[1]]
    const path = file('bad.json', JSON.stringify([example('x', { readings: wrong }), example('y', { error: 'empty' })]))
    const lines = (await decode('--cases', path)).trimEnd().split('\n')
    expect(lines).toHaveLength(3)
    expect(lines[0]).toBe(
      `${path} x: - {"device":"d","metric":"b","value":2,"unit":null,"ts":null} + {"device":"d","metric":"b","value":0,"unit":null,"ts":null}`,
    )
    expect(lines[1]).toContain('y: expected {"error":"empty"}, got {"readings":[')
    expect(lines[2]).toBe('0 passed, 2 failed')
    expect(process.exitCode).toBe(1)
    expect(JSON.parse(await decode('--json', '--cases', path))).toMatchObject({ passed: 0, failed: 2 })
  })

  it('is not content with a file of something else', async () => {
    const path = file('other.json', '[{"id":"x"}]')
    await expect(decode('--cases', path)).rejects.toMatchObject({ code: 'BRIDGE_USAGE' })
  })
})

it('codecs: each is described', async () => {
  for (const { name } of codecs) expect(noteOf(name).format).not.toBe('')
  expect(JSON.parse(await output(createCodecsCommand(), '--json'))).toHaveLength(codecs.length)
  expect(await output(createCodecsCommand())).toContain('sparkplug-b')
})

describe('a route table', () => {
  const table = () => file('routes.yaml', '- { topic: "plant/+/t", device: "p{+1}", units: { value: C } }\n')

  it('comes before the default order', async () => {
    const path = file('value', '21.5')
    expect(JSON.parse(await decode('--topic', 'plant/7/t', '--routes', table(), path))).toEqual({
      readings: [{ device: 'p7', metric: 'value', value: 21.5, unit: 'Cel', ts: null }],
    })
  })

  it('that is bad is refused with its line', async () => {
    const bad = file('bad.yaml', 'routes:\n  - { topic: a, codec: nonsense }\n')
    await expect(decode('--topic', 'a', '--routes', bad, file('value', '1'))).rejects.toThrow(
      /line 2: there is no codec/,
    )
  })
})
