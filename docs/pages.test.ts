import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import { describe, expect, it } from 'vitest'
import { createProgram } from '#cli/program.ts'
import { settings } from '#platform/config.ts'
import { errorTable } from '#platform/errors.ts'

const root = join(import.meta.dirname, '..')
const names = ['*.md', 'docs/**/*.md', 'simulator/**/*.md', 'gateway/**/*.md'].flatMap((cwd) =>
  globSync(cwd, { cwd: root }),
)
const pages = names.map((name) => ({ name, text: readFileSync(join(root, name), 'utf8') }))

/** No settings: where the file with the settings is, and what one command reads, which its help names. */
const besideSettings = ['BRIDGE_CONFIG', 'BRIDGE_IMPORT_TOKEN']

describe.each(pages)('$name', ({ name, text }) => {
  it('has links that lead somewhere, headings included', () => {
    const prose = text.replace(/^[ ]*```[\s\S]*?^[ ]*```/gm, '')
    for (const [, target = ''] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue
      const [path = '', heading] = target.split('#')
      const file = path === '' ? join(root, name) : join(root, dirname(name), path)
      expect(existsSync(file), target).toBe(true)
      if (heading !== undefined) expect(anchorsOf(readFileSync(file, 'utf8')), target).toContain(heading)
    }
  })

  it('has command lines that fleetbridge understands', () => {
    for (const line of commandLines(text)) expect(faultOf(line), line).toBeUndefined()
  })

  it('names variables that exist', () => {
    const known = new Set([...settings.map(({ env }) => env), ...Object.keys(errorTable), ...besideSettings])
    // What ends with _ or … stands for several.
    for (const [variable] of text.matchAll(/\bBRIDGE_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_…])/g))
      expect(known.has(variable) || text.includes(`${variable}_…`), variable).toBe(true)
  })
})

it.each([
  ['devices ad pump-1', 'devices has no command ad'],
  ['devices add pump-1 --fro arduino', 'devices add has no option --fro'],
  ['devices add pump-1 --for commodore', '--for is none of its choices: commodore'],
  ['dead-letters show', 'dead-letters show wants more words'],
])('a page that says "fleetbridge %s" is found', (line, fault) => {
  expect(faultOf(line)).toBe(fault)
})

it('enough is looked at', () => {
  expect(pages.length).toBeGreaterThan(50)
  expect(pages.flatMap(({ text }) => commandLines(text)).length).toBeGreaterThan(80)
})

it('every page of docs/ is in its index', () => {
  const index = readFileSync(join(root, 'docs/README.md'), 'utf8')
  for (const page of globSync('*.md', { cwd: join(root, 'docs') }))
    if (page !== 'README.md') expect(index).toContain(`](${page})`)
})

/** As the common hosts make them of headings: lower case, spaces as hyphens, no punctuation. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  )
}

const shells = new Set(['', 'sh', 'bash', 'shell', 'console'])

/** What follows `fleetbridge` in shell blocks, with continued lines joined, up to a pipe, a redirection, a comment or a closing parenthesis. */
function commandLines(text: string): string[] {
  return [...text.matchAll(/^[ ]*```(\w*)[^\n]*\n([\s\S]*?)^[ ]*```/gm)].flatMap(([, language = '', block = '']) =>
    shells.has(language)
      ? [...block.replace(/\\\n\s*/g, ' ').matchAll(/npx fleetbridge ([a-z][^\n]*)/g)].map(([, line = '']) => line)
      : [],
  )
}

function wordsOf(line: string): string[] {
  const words: string[] = []
  for (const [word] of line.matchAll(/'[^']*'|"[^"]*"|[|>;&)]|\s#.*|[^\s'"|>;&)]+/g)) {
    if (/^(?:[|>;&)]|\s#)/.test(word)) break
    words.push(word.replace(/^['"]|['"]$/g, ''))
  }
  return words
}

/** Undefined when the line is right. */
function faultOf(line: string): string | undefined {
  let command: Command = createProgram()
  const path: string[] = []
  const words = wordsOf(line)
  while (command.commands.length > 0) {
    const word = words.shift() ?? ''
    const inner = command.commands.find((one) => one.name() === word || one.aliases().includes(word))
    if (inner === undefined) return word === '--help' ? undefined : `${path.join(' ')} has no command ${word}`
    command = inner
    path.push(word)
  }
  let given = 0
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (!/^-./.test(word)) given += 1
    else {
      const [flag = '', assigned] = word.split('=')
      if (flag === '--help') return undefined
      const option = command.options.find(({ long, short }) => long === flag || short === flag)
      if (option === undefined) return `${path.join(' ')} has no option ${flag}`
      const value = assigned ?? (option.required ? words.shift() : undefined)
      if (option.required && value === undefined) return `${flag} wants a value`
      if (option.argChoices !== undefined && value !== undefined && !option.argChoices.includes(value))
        return `${flag} is none of its choices: ${value}`
      // `--remove a b`: an option that takes several takes all words up to the next option.
      if (option.variadic) while (words[0] !== undefined && !words[0].startsWith('-')) words.shift()
    }
  }
  const wanted = command.registeredArguments.filter(({ required }) => required).length
  if (given < wanted) return `${path.join(' ')} wants more words`
  const last = command.registeredArguments.at(-1)
  if (last?.variadic !== true && given > command.registeredArguments.length)
    return `${path.join(' ')} takes fewer words`
  return undefined
}
