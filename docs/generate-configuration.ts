import { writeFileSync } from 'node:fs'
import { type Setting, settings } from '#platform/config.ts'

const path = new URL('configuration.md', import.meta.url)

/** docs/configuration.md as the settings say it. */
export function configurationPage(): string {
  const groups = Map.groupBy(settings, ({ path: [first, second] }) => (second === undefined ? 'process' : first))
  const parts = [head]
  for (const [group, members] of groups) parts.push(`\n## ${group}\n`, tableOf(members))
  return `${parts.join('\n')}\n`
}

const head = `# Configuration

<!-- Made from platform/config-schema.ts by: node docs/generate-configuration.ts -->

Defaults < file < environment. The file is \`fleetbridge.yaml\` in the working folder, or the one that \`BRIDGE_CONFIG\` names; it has the same
settings in sections:

\`\`\`yaml
mqtt:
  port: 11883
limits:
  device: 100:1,2000:60
\`\`\`

Every problem is reported at once, unknown names included, before a port is opened. Lists are separated by commas in the environment.`

function tableOf(members: readonly Setting[]): string {
  const rows = members.map(({ env, path, schema }) => [
    code(env),
    code(path.join('.')),
    shown(schema.default),
    (schema.description ?? '').replaceAll('|', '\\|') + range(schema),
  ])
  const lines = [['environment', 'file', 'default', 'what it does'], ['---', '---', '---', '---'], ...rows]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function shown(value: unknown): string {
  if (value === undefined) return ''
  if (Array.isArray(value)) return value.length === 0 ? 'empty' : code(value.join(','))
  return code(String(value))
}

function range(schema: Setting['schema'] & { minimum?: number; maximum?: number }): string {
  const { minimum, maximum } = schema
  if (minimum === undefined) return ''
  return maximum === undefined ? ` (at least ${minimum})` : ` (${minimum} to ${maximum})`
}

const code = (text: string) => `\`${text}\``

if (import.meta.main) writeFileSync(path, configurationPage())
