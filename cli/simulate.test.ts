import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createSimulateCommand } from './simulate.ts'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'fleetbridge-simulate-'))
  vi.stubEnv('BRIDGE_DATA_DIR', join(dir, 'nothing-here'))
  vi.stubEnv('DATABASE_URL', undefined)
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(dir, { recursive: true, force: true })
})

/** What the command says when it refuses its words. */
async function refusalOf(...args: string[]): Promise<string> {
  let printed = ''
  const command = createSimulateCommand()
    .exitOverride()
    .configureOutput({ writeErr: (text) => (printed += text) })
  try {
    await command.parseAsync(args, { from: 'user' })
  } catch (error) {
    return printed + (error as Error).message
  }
  throw new Error(`simulate ${args.join(' ')} was not refused`)
}

it.each([
  [['--devices', '0'], /--devices.*whole number from 1/],
  [['--devices', '2.5'], /--devices.*whole number/],
  [['--devices', '1e3'], /--devices.*whole number/],
  [['--rate', '0'], /--rate.*above 0/],
  [['--rate', '-5'], /--rate.*above 0/],
  [['--rate', 'fast'], /--rate.*above 0/],
  [['--duration', '30 parsecs'], /--duration.*30s/],
  [['--duration', '25h'], /--duration.*at most 24h/],
  [['--readings', '0'], /--readings.*from 1 to 100/],
  [['--readings', '101'], /--readings.*from 1 to 100/],
  [['--qos', '2'], /--qos.*0 or 1/],
  [['--protocol', '3'], /--protocol.*4 or 5/],
  [['--seed', '-1'], /--seed.*whole number/],
  [['--url', 'localhost:1883'], /--url.*mqtt:\/\/host:port/],
  [['--url', 'ftp://localhost'], /--url.*mqtt:\/\/host:port/],
  [['--mqtt', '--http'], /cannot be used with/],
  [['--colour'], /unknown option/],
])('refuses %j and says what it takes', async (args, message) => {
  expect(await refusalOf(...args)).toMatch(message)
})

it('refuses an address of the other protocol', async () => {
  expect(await refusalOf('--http', '--url', 'mqtt://127.0.0.1:1')).toMatch(/does not go with --http/)
  expect(await refusalOf('--url', 'http://127.0.0.1:1')).toMatch(/does not go with --mqtt/)
})

it('names a file that cannot be read, and the line that is no device,token', async () => {
  expect(await refusalOf('--csv', join(dir, 'none.csv'))).toMatch(/none\.csv cannot be read/)
  const file = join(dir, 'fleet.csv')
  writeFileSync(file, 'pump-1,fb_x\npump-2\n')
  expect(await refusalOf('--csv', file)).toMatch(/line 2/)
})

it('says what to do when nothing runs here, and when nobody answers', async () => {
  expect(await refusalOf()).toMatch(/nothing runs here and DATABASE_URL is not set: start one with "npm start"/)
  const file = join(dir, 'fleet.csv')
  writeFileSync(file, 'pump-1,fb_x\n')
  expect(await refusalOf('--csv', file)).toMatch(/nothing runs here/)
  expect(await refusalOf('--database-url', 'postgres://nobody@127.0.0.1:1/none')).toMatch(/does not answer/)
})
