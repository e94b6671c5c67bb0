import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { expect, it } from 'vitest'
import { createProgram } from './program.ts'

interface Listed {
  readonly name: string
  readonly command: Command
}

function below(command: Command, path: string): Listed[] {
  return command.commands.flatMap((inner) => {
    const name = `${path}${inner.name()}`
    return [{ name, command: inner }, ...below(inner, `${name} `)]
  })
}

function helpOf(command: Command): string {
  let help = ''
  command.configureOutput({ writeOut: (text) => (help += text) }).outputHelp()
  return help
}

const commands = below(createProgram(), '')
/** They run until they are ended; `export` writes rows in a format of its own (--format). */
const withoutJson = new Set(['up', 'gateway', 'worker', 'export'])

it.each(commands)('$name has a help with an example of itself', ({ name, command }) => {
  expect(helpOf(command)).toContain(`npx fleetbridge ${name}`)
  expect(command.description(), 'a phrase, no sentence').not.toMatch(/\.$/)
})

it.each(commands.filter(({ name, command }) => command.commands.length === 0 && !withoutJson.has(name)))(
  '$name has --json',
  ({ command }) => {
    expect(helpOf(command)).toContain('--json')
  },
)

it('the help of the program names the exit codes', () => {
  expect(helpOf(createProgram())).toContain('Exit codes:')
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
