import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

/** The parts of docker-compose.yml that we look at. */
export interface ComposeService {
  readonly image?: string
  readonly build?: string
  readonly user?: string
  readonly profiles?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string | number>>
  readonly depends_on?: Readonly<Record<string, { condition: string }>>
  readonly volumes?: readonly string[]
  readonly ports?: readonly string[]
  readonly networks?: readonly string[]
  readonly healthcheck?: { test?: readonly string[]; disable?: boolean }
  readonly restart?: string
  readonly stop_grace_period?: string
  readonly cap_drop?: readonly string[]
}

export interface Compose {
  readonly services: Readonly<Record<string, ComposeService>>
  readonly networks: Readonly<Record<string, { ipam?: { config: readonly { subnet: string }[] }; internal?: boolean }>>
  readonly volumes: Readonly<Record<string, unknown>>
}

/** A line of a Dockerfile, its continuations joined: `COPY`, `bin ./bin`. */
export interface Instruction {
  readonly name: string
  readonly rest: string
}

export interface HaproxyServer {
  readonly backend: string
  readonly name: string
  readonly host: string
  readonly port: number
  readonly options: readonly string[]
}

export const repositoryFile = (path: string): URL => new URL(`../${path}`, import.meta.url)

export function readText(path: string): string {
  return readFileSync(repositoryFile(path), 'utf8')
}

/** With its anchors merged; variables stay as they are written. */
export function readCompose(file = 'docker-compose.yml'): Compose {
  return parse(readText(file), { merge: true }) as Compose
}

export function readDockerfile(): readonly Instruction[] {
  return readText('Dockerfile')
    .replace(/^\s*#.*\n/gm, '')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, name = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? []
      return { name, rest }
    })
}

/** Every `server` line of ops/haproxy.cfg with the backend it stands in. */
export function readHaproxyServers(): readonly HaproxyServer[] {
  const servers: HaproxyServer[] = []
  let section = ''
  for (const line of readText('ops/haproxy.cfg').split('\n')) {
    if (/^[a-z]/.test(line)) section = line.split(/\s+/)[1] ?? ''
    const [word, name = '', address = '', ...options] = line.trim().split(/\s+/)
    if (word !== 'server') continue
    const [host = '', port] = address.split(':')
    servers.push({ backend: section, name, host, port: Number(port), options })
  }
  return servers
}

/** The variables that `${NAME}`, `${NAME:-default}` or `${NAME:?text}` ask for; `$$NAME` is the container's own. */
export function variablesOf(
  text: string,
): readonly { name: string; fallback: string | undefined; required: boolean }[] {
  return [...text.matchAll(/(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}/g)].map(([, name = '', mark, rest]) => ({
    name,
    fallback: mark === '-' ? rest : undefined,
    required: mark === '?',
  }))
}

/** NAME=value lines. */
export function readEnvFile(path: string): ReadonlyMap<string, string> {
  const lines = readText(path)
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}
