import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { platforms } from './snippet.ts'
import { type SnippetFlags, snippetPrinter, withSnippetOptions } from './snippet-options.ts'
import { authorityPem, gatewayPem } from './testing/facts.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fleetbridge-options-'))
  vi.stubEnv('BRIDGE_DATA_DIR', folder) // where nothing runs
  vi.stubEnv('BRIDGE_HTTP_PORT', '18080')
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true })
})

/** What goes to standard output and to the terminal beside it. */
async function printed(flags: SnippetFlags, ...devices: string[]): Promise<{ out: string; beside: string }> {
  const print = snippetPrinter(flags, devices.length)
  let out = ''
  let beside = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((text, done) => {
    out += text
    ;(done as unknown as () => void)()
    return true
  })
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    beside += text
    return true
  })
  await print?.(devices.map((device) => ({ device, token: `token-of-${device}` })))
  return { out, beside }
}

it('the program goes to standard output alone, the token beside it', async () => {
  const { out, beside } = await printed({ for: 'curl', host: 'gateway.example' }, 'pump-1')
  expect(out).toMatch(/^#!\/bin\/sh\n[\s\S]*http:\/\/gateway\.example:18080\/v1\/telemetry\n$/)
  expect(out).toContain('TOKEN=token-of-pump-1\n')
  expect(beside).toBe('pump-1 token-of-pump-1\n')
})

it('as JSON it stands beside device and token', async () => {
  const { out, beside } = await printed({ for: 'python', json: true }, 'a', 'b')
  expect(JSON.parse(out)).toMatchObject([
    { device: 'a', token: 'token-of-a', snippet: expect.stringContaining('DEVICE = "a"') },
    { device: 'b', token: 'token-of-b', snippet: expect.stringContaining('TOKEN = "token-of-b"') },
  ])
  expect(beside).toBe('')
})

it('says what is wrong before a device is made', () => {
  expect(() => snippetPrinter({ for: 'curl' }, 2)).toThrow(/one device/)
  expect(() => snippetPrinter({ for: 'curl', json: true }, 1001)).toThrow(/1000/)
  expect(() => snippetPrinter({ for: 'curl', csv: true }, 1)).toThrow(/--csv/)
  expect(() => snippetPrinter({ for: 'curl', host: 'no host' }, 1)).toThrow(/no host/)
  for (const flags of [{ host: 'h' }, { ca: 'ca.pem' }]) expect(() => snippetPrinter(flags, 1)).toThrow(/--for/)
  expect(snippetPrinter({}, 5)).toBeUndefined()
})

it('over TLS, platforms without known authorities must be given ours', () => {
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  vi.stubEnv('BRIDGE_TLS_CERT_FILE', file('leaf.pem', gatewayPem))
  vi.stubEnv('BRIDGE_TLS_KEY_FILE', join(folder, 'key.pem'))
  for (const platform of platforms) {
    const make = (ca?: string) => snippetPrinter({ for: platform, ...(ca !== undefined && { ca }) }, 1)
    if (platform === 'arduino' || platform === 'micropython') expect(() => make(), platform).toThrow(/--ca/)
    else expect(make(), platform).toBeDefined()
    expect(make(file('ca.pem', authorityPem)), platform).toBeDefined()
  }
})

it('the option names the platforms, and takes no other', () => {
  const command = withSnippetOptions(new Command('add'))
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
  expect(command.parse(['--for', 'esp-idf'], { from: 'user' }).opts()).toEqual({ for: 'esp-idf' })
  expect(() => command.parse(['--for', 'toaster'], { from: 'user' })).toThrow(
    /esp-idf, arduino, micropython, python, curl/,
  )
})
