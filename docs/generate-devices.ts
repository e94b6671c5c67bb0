import { readFileSync, writeFileSync } from 'node:fs'
import {
  type Program,
  programs,
  type Settings,
  type SnippetFacts,
  settings,
  snippetFor,
} from '#cli/snippets/snippet.ts'

/** The pages that show a program; their words are written by hand, the programs between the marks are those of `devices add --for`. */
export const devicePages = programs.map((platform) => ({
  platform,
  path: new URL(`devices/${platform}.md`, import.meta.url),
}))

/** Pages of firmware and software that is set up, and not programmed. */
export const settingsPages = settings.map((platform) => ({
  platform,
  path: new URL(`devices/${platform}.md`, import.meta.url),
}))

const plain: SnippetFacts = {
  host: 'gateway.example',
  mqttPort: 1883,
  httpUrl: 'http://gateway.example:8080',
  device: 'pump-1',
  token: 'the-token-that-is-printed',
}
const withTls: SnippetFacts = {
  ...plain,
  mqttTlsPort: 8883,
  httpsUrl: 'https://gateway.example:8443',
  ca: { file: '/etc/fleet/ca.pem', pem: '-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n' },
}
const languages: Record<Program, string> = {
  'esp-idf': 'c',
  arduino: 'cpp',
  micropython: 'python',
  python: 'python',
  curl: 'bash',
}

/** A page with its programs as they are now. */
export function devicePage(platform: Program, page: string): string {
  const program = snippetFor(platform, plain)
  return filled(filled(page, 'program', platform, program), 'with TLS', platform, newLines(program, withTls, platform))
}

const settingsLanguages: Record<Settings, string> = {
  tasmota: '',
  zigbee2mqtt: 'yaml',
  shelly: 'sh',
  esphome: 'yaml',
  telegraf: 'toml',
  'home-assistant': 'yaml',
}

/** A page with its settings as they are now. */
export function settingsPage(platform: Settings, page: string): string {
  // The device of the page's own command.
  const device = /devices add (\S+) --for/.exec(page)?.[1] ?? plain.device
  return filled(page, 'settings', platform, snippetFor(platform, { ...plain, device }))
}

/** The lines that TLS brings, in their order. */
function newLines(program: string, facts: SnippetFacts, platform: Program): string {
  const known = new Set(program.split('\n'))
  const lines = snippetFor(platform, facts).split('\n')
  return lines.filter((line) => !known.has(line)).join('\n')
}

function filled(page: string, mark: string, platform: Program | Settings, text: string): string {
  const block = new RegExp(`(<!-- ${mark}, by node docs/generate-devices\\.ts -->\\n)[\\s\\S]*?(<!-- end -->)`)
  if (!block.test(page)) throw new Error(`docs/devices/${platform}.md has no marks for "${mark}"`)
  return page.replace(block, (_, before: string, after: string) => {
    return `${before}\`\`\`${{ ...languages, ...settingsLanguages }[platform]}\n${text.trimEnd()}\n\`\`\`\n${after}`
  })
}

if (import.meta.main) {
  for (const { platform, path } of devicePages) writeFileSync(path, devicePage(platform, readFileSync(path, 'utf8')))
  for (const { platform, path } of settingsPages)
    writeFileSync(path, settingsPage(platform, readFileSync(path, 'utf8')))
}
