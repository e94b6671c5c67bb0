import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { expect, it } from 'vitest'
import { createAdminTokensCommand } from './admin-tokens.ts'
import { createCredentialsCommand } from './credentials.ts'
import { createDeadLettersCommand } from './dead-letters.ts'
import { createDeviceTypesCommand } from './device-types.ts'
import { createDevicesCommand } from './devices.ts'
import { createImportCommand } from './import.ts'
import { createLimitsCommand } from './limits.ts'
import { createRedecodeCommand } from './redecode.ts'
import { createTenantsCommand } from './tenants.ts'

const commands = [
  createDevicesCommand(),
  createCredentialsCommand(),
  createTenantsCommand(),
  createAdminTokensCommand(),
  createLimitsCommand(),
  createDeadLettersCommand(),
  createDeviceTypesCommand(),
]
  .flatMap((group) => group.commands.map((command) => ({ name: `${group.name()} ${command.name()}`, command })))
  .concat([createImportCommand(), createRedecodeCommand()].map((command) => ({ name: command.name(), command })))

function helpOf(command: Command): string {
  let help = ''
  command.configureOutput({ writeOut: (text) => (help += text) }).outputHelp()
  return help
}

it.each(commands)('$name has a help with an example of itself, and --json', ({ name, command }) => {
  const help = helpOf(command)
  expect(help).toContain(`npx fleetbridge ${name}`)
  expect(help).toContain('--json')
})

it('ends quietly when whoever reads its output goes away', async () => {
  const child = spawn(process.execPath, [fileURLToPath(new URL('../bin/fleetbridge.js', import.meta.url)), 'codecs'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child.stdout.destroy()
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text))
  const [code] = (await once(child, 'close')) as [number]
  expect([code, complaint]).toEqual([141, ''])
})
