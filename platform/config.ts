import { readFileSync } from 'node:fs'
import type { TObject, TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { isMap, isScalar, LineCounter, parseDocument } from 'yaml'
import { Config } from './config-schema.ts'
import { BridgeError } from './errors.ts'

/** One setting: where it lies, what the environment calls it, and its schema. */
export interface Setting {
  readonly path: readonly [string] | readonly [string, string]
  readonly env: string
  readonly schema: TSchema & {
    default?: unknown
    description?: string
    secret?: boolean
    items?: { secret?: boolean }
  }
}

/** All settings in the order of the schema. */
export const settings: readonly Setting[] = flatten(Config)

/**
 * Reads the configuration: defaults < file < environment.
 * @param environment usually process.env; names that start with BRIDGE_ and mean nothing are problems too
 * @throws BridgeError BRIDGE_CONFIG_INVALID that lists every problem at once
 */
export function loadConfig(environment: NodeJS.ProcessEnv): Config {
  const problems: string[] = []
  const raw: Record<string, unknown> = {}
  for (const setting of settings) put(raw, setting, structuredClone(setting.schema.default)) // sections are there even when empty
  readFile(environment, raw, problems)
  readEnvironment(environment, raw, problems)
  for (const setting of settings) {
    const value = get(raw, setting)
    if (value === undefined) continue
    for (const error of Value.Errors(setting.schema, value)) {
      problems.push(`${setting.env} (${setting.path.join('.')}): ${error.message}, not ${shown(setting, value)}`)
      break
    }
  }
  if (problems.length > 0) {
    const list = problems.map((problem) => `  - ${problem}`).join('\n')
    throw new BridgeError(
      'BRIDGE_CONFIG_INVALID',
      `the configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${list}\nSee docs/configuration.md.`,
    )
  }
  return raw as Config
}

/** The file of the configuration, which may be absent unless the environment names it. */
export function configPath(environment: NodeJS.ProcessEnv): string {
  return environment.BRIDGE_CONFIG ?? './fleetbridge.yaml'
}

/** The settings that differ from their defaults, secrets hidden: what a start line may print. */
export function changedSettings(config: Config): Record<string, unknown> {
  const changed: Record<string, unknown> = {}
  for (const setting of settings) {
    const value = get(config, setting)
    if (value === undefined || JSON.stringify(value) === JSON.stringify(setting.schema.default)) continue
    changed[setting.path.join('.')] = setting.schema.secret ? '[redacted]' : value
  }
  return changed
}

function flatten(schema: TObject): Setting[] {
  const found: Setting[] = []
  for (const [name, member] of Object.entries(schema.properties) as [string, Setting['schema'] & Partial<TObject>][]) {
    if (member.properties === undefined) found.push({ path: [name], env: environmentName([name]), schema: member })
    else
      for (const [inner, leaf] of Object.entries(member.properties) as [string, Setting['schema'] & { env?: string }][])
        found.push({ path: [name, inner], env: leaf.env ?? environmentName([name, inner]), schema: leaf })
  }
  return found
}

function environmentName(path: readonly string[]): string {
  return `BRIDGE_${path.map((part) => part.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()).join('_')}`
}

function readFile(environment: NodeJS.ProcessEnv, raw: Record<string, unknown>, problems: string[]): void {
  const path = configPath(environment)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || environment.BRIDGE_CONFIG !== undefined)
      problems.push(`BRIDGE_CONFIG: cannot read ${path}: ${(error as Error).message}`)
    return
  }
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  for (const error of document.errors)
    problems.push(`${path} line ${lines.linePos(error.pos[0]).line}: ${error.message.split('\n')[0]}`)
  if (document.errors.length > 0 || document.contents === null) return
  if (!isMap(document.contents)) {
    problems.push(`${path}: must hold sections such as "mqtt:"`)
    return
  }
  const lineOf = (node: unknown) => lines.linePos((node as { range?: [number, number, number] }).range?.[0] ?? 0).line
  for (const { key, value } of document.contents.items) {
    const name = isScalar(key) ? String(key.value) : ''
    const single = settings.find((setting) => setting.path.length === 1 && setting.path[0] === name)
    if (single !== undefined) {
      // `routes:` with nothing below it is an empty list, as YAML people write it.
      if (value !== null && !(isScalar(value) && value.value === null))
        put(raw, single, (value as { toJSON(): unknown }).toJSON())
      continue
    }
    if (!settings.some((setting) => setting.path.length === 2 && setting.path[0] === name)) {
      problems.push(`${path} line ${lineOf(key)}: unknown key "${name}"`)
      continue
    }
    if (!isMap(value)) {
      problems.push(`${path} line ${lineOf(key)}: "${name}" must hold settings`)
      continue
    }
    for (const { key: innerKey, value: innerValue } of value.items) {
      const inner = isScalar(innerKey) ? String(innerKey.value) : ''
      const setting = settings.find(({ path: [first, second] }) => first === name && second === inner)
      if (setting === undefined) problems.push(`${path} line ${lineOf(innerKey)}: unknown key "${name}.${inner}"`)
      else put(raw, setting, (innerValue as { toJSON?(): unknown } | null)?.toJSON?.())
    }
  }
}

function readEnvironment(environment: NodeJS.ProcessEnv, raw: Record<string, unknown>, problems: string[]): void {
  const known = new Set(['BRIDGE_CONFIG', ...settings.map(({ env }) => env)])
  for (const name of Object.keys(environment))
    if (name.startsWith('BRIDGE_') && !known.has(name))
      problems.push(`${name}: no such setting${suggestion(name, known)}`)
  for (const setting of settings) {
    const text = environment[setting.env]
    if (text === undefined || text === '') continue
    put(raw, setting, parse(setting.schema, text))
  }
}

function parse(schema: Setting['schema'], text: string): unknown {
  const type = (schema as { type?: string }).type
  if (type === 'integer') return /^-?\d+$/.test(text) ? Number(text) : text
  if (type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text
  if (type === 'array' && (schema.items as { type?: string } | undefined)?.type === 'object') return parsedJson(text)
  if (type === 'array')
    return text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '')
  return text
}

/** A list of objects, as the file holds it. What is no JSON fails at the schema. */
function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function suggestion(name: string, known: ReadonlySet<string>): string {
  const words = name.split('_').slice(1)
  const near = [...known].find(
    (candidate) =>
      candidate.split('_').slice(1).sort().join() === [...words].sort().join() ||
      candidate.startsWith(name) ||
      name.startsWith(candidate),
  )
  return near === undefined ? '' : `; did you mean ${near}?`
}

function get(raw: object, { path: [first, second] }: Setting): unknown {
  const member = (raw as Record<string, unknown>)[first]
  return second === undefined ? member : (member as Record<string, unknown> | undefined)?.[second]
}

function put(raw: Record<string, unknown>, { path: [first, second] }: Setting, value: unknown): void {
  if (second === undefined) raw[first] = value
  else {
    raw[first] ??= {}
    ;(raw[first] as Record<string, unknown>)[second] = value
  }
}

function shown(setting: Setting, value: unknown): string {
  return setting.schema.secret ? '[redacted]' : JSON.stringify(value)
}
