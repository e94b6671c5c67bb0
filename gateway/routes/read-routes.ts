import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import type { Codec } from '../normalize/codec.ts'
import { type CodecOptions, codecOptions } from '../normalize/codec-options.ts'
import { codecByName } from '../normalize/codecs.ts'
import { mediaTypeOf } from '../normalize/media-type.ts'
import { unitOf } from '../normalize/unit.ts'
import { DeviceTemplate } from './device-template.ts'
import { type MappingRules, ReadingMapping } from './reading-mapping.ts'
import type { RouteRule } from './route-rule.ts'

export interface ReadRoutes {
  readonly rules: readonly RouteRule[]
  /** Everything that is wrong, with the lines; the rules are of no use then. */
  readonly problems: readonly string[]
}

/** A table is made by people; one that is larger is made by a mistake. */
const maxRoutes = 1000
const maxTextBytes = 1_048_576
const maxLevels = 128
const maxNames = 1000
const maxKeepRawDays = 31

/**
 * Reads the entries below `routes:` of a YAML file (or a list that is the whole file), and finds everything that is wrong at once.
 * @param text of the file; JSON is YAML as well
 * @param name how the file is called in problems
 */
export function readRoutes(text: string, name: string): ReadRoutes {
  if (text.length > maxTextBytes) return { rules: [], problems: [`${name}: is larger than ${maxTextBytes} bytes`] }
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  if (document.errors.length > 0)
    return {
      rules: [],
      problems: document.errors.map(
        ({ pos, message }) => `${name} line ${lines.linePos(pos[0]).line}: ${message.split('\n')[0]}`,
      ),
    }
  const root = document.contents
  const list = isMap(root) ? root.get('routes', true) : root
  const reader = new RouteReader(name, lines)
  if (list === null || list === undefined || (isScalar(list) && list.value === null)) return { rules: [], problems: [] }
  if (!isSeq(list))
    reader.problem(list as Node, 'routes must be a list of entries that begin with "- topic:" or "- path:"')
  else if (list.items.length > maxRoutes) reader.problem(list, `there are more than ${maxRoutes} routes`)
  else for (const item of list.items) reader.read(item as Node)
  return { rules: reader.rules, problems: reader.problems }
}

/** What an entry may hold; docs/routes.md explains each. */
export const routeKeys = [
  'topic',
  'path',
  'contentType',
  'tenant',
  'codec',
  'options',
  'device',
  'identity',
  'drop',
  'rename',
  'units',
  'keepRaw',
]

/** What one entry holds, each member with the place that it stands at. */
type Members = ReadonlyMap<string, Node>

class RouteReader {
  readonly rules: RouteRule[] = []
  readonly problems: string[] = []
  readonly #name: string
  readonly #lines: LineCounter

  constructor(name: string, lines: LineCounter) {
    this.#name = name
    this.#lines = lines
  }

  problem(at: Node | null | undefined, words: string): undefined {
    const line = at?.range ? ` line ${this.#lines.linePos(at.range[0]).line}` : ''
    this.problems.push(`${this.#name}${line}: ${words}`)
  }

  read(entry: Node): void {
    const before = this.problems.length
    const rule = this.#rule(entry)
    if (rule !== undefined && before === this.problems.length) this.rules.push(rule)
  }

  #rule(entry: Node): RouteRule | undefined {
    if (!isMap(entry)) return this.problem(entry, 'a route must be an entry such as "topic: plant/+/data"')
    const members = new Map<string, Node>()
    for (const { key, value } of entry.items) {
      const name = isScalar(key) ? String(key.value) : ''
      if (!routeKeys.includes(name))
        this.problem(key as Node, `unknown key "${name.slice(0, 60)}"; a route has ${routeKeys.join(', ')}`)
      else if (isAlias(value)) this.problem(value, `${name}: YAML aliases are not followed here; write it out`)
      else if (value !== null) members.set(name, value as Node)
    }
    const [topic, path] = [members.get('topic'), members.get('path')]
    if ((topic === undefined) === (path === undefined))
      return this.problem(entry, 'a route has either a topic (MQTT) or a path (HTTP)')
    const levels = topic === undefined ? this.#pathLevels(path as Node) : this.#topicLevels(topic)
    const codec = this.#codec(members.get('codec'))
    return {
      source: topic === undefined ? 'http' : 'mqtt',
      levels: levels ?? [],
      contentType: this.#contentType(members.get('contentType')),
      tenant: this.#tenant(members.get('tenant')),
      codec,
      options: this.#options(members.get('options'), codec, members.get('codec')),
      device: this.#device(members.get('device'), levels),
      identity: this.#identity(members.get('identity')),
      mapping: this.#mapping(members),
      keepRawDays: this.#keepRaw(members.get('keepRaw')),
    }
  }

  #text(what: string, node: Node | undefined): string | undefined {
    if (node === undefined) return undefined
    if (isScalar(node) && typeof node.value === 'string' && node.value !== '') return node.value
    return this.problem(node, `${what} must be text`)
  }

  #topicLevels(node: Node): string[] | undefined {
    const filter = this.#text('topic', node)
    if (filter === undefined) return undefined
    if (filter.startsWith('$share/')) return this.problem(node, 'topic: a shared subscription is no topic filter here')
    return this.#levels('topic', filter.split('/'), node)
  }

  #pathLevels(node: Node): string[] | undefined {
    const path = this.#text('path', node)
    if (path === undefined) return undefined
    if (!path.startsWith('/')) return this.problem(node, 'path must begin with /')
    if (path.includes('?'))
      return this.problem(node, 'path is matched without its query: leave out the ? and what follows')
    return this.#levels('path', path.split('/'), node)
  }

  #levels(what: string, levels: string[], node: Node): string[] | undefined {
    if (levels.length > maxLevels) return this.problem(node, `${what} has more than ${maxLevels} levels`)
    for (const [index, level] of levels.entries()) {
      if (level === '#' && index < levels.length - 1) return this.problem(node, `${what}: # may only stand at the end`)
      if (level !== '#' && level !== '+' && /[+#\0]/.test(level))
        return this.problem(
          node,
          `${what}: + and # must be a whole level, and ${JSON.stringify(level.slice(0, 60))} is none`,
        )
    }
    return levels
  }

  #contentType(node: Node | undefined): string | undefined {
    const text = this.#text('contentType', node)
    if (text === undefined) return undefined
    const mediaType = mediaTypeOf(text)
    if (mediaType === undefined || !/^[^\s/;]+\/[^\s/;]+$/.test(mediaType))
      return this.problem(node, `contentType must be a media type such as application/json`)
    return mediaType
  }

  #tenant(node: Node | undefined): string | undefined {
    const name = this.#text('tenant', node)
    if (name === undefined || /^[a-z0-9-]{1,63}$/.test(name)) return name
    return this.problem(node, 'tenant must be 1 to 63 of a-z, 0-9 and -')
  }

  #codec(node: Node | undefined): Codec | undefined {
    const name = this.#text('codec', node)
    if (name === undefined) return undefined
    const codec = codecByName.get(name)
    return (
      codec ??
      this.problem(node, `there is no codec "${name.slice(0, 60)}"; there are ${[...codecByName.keys()].join(', ')}`)
    )
  }

  #options(node: Node | undefined, codec: Codec | undefined, codecNode: Node | undefined): CodecOptions | undefined {
    if (node === undefined) return undefined
    if (!isMap(node)) return this.problem(node, 'options must be entries such as "precision: ms"')
    if (codec === undefined)
      return codecNode === undefined
        ? this.problem(node, 'options belong to a codec: name it with "codec:"')
        : undefined
    const rules = codecOptions.get(codec.name)
    const options: Record<string, unknown> = {}
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : ''
      const rule = rules?.get(name as keyof CodecOptions)
      const plain = (value as Node | null)?.toJSON?.() as unknown
      if (rule === undefined)
        this.problem(
          key as Node,
          `options: ${codec.name} has no option "${name.slice(0, 60)}"${rules === undefined ? '' : `; it has ${[...rules.keys()].join(', ')}`}`,
        )
      else if (!rule.isValid(plain)) this.problem(key as Node, `options: ${name} must be ${rule.words}`)
      else options[name] = plain
    }
    return options
  }

  #device(node: Node | undefined, levels: readonly string[] | undefined): DeviceTemplate | undefined {
    const text = this.#text('device', node)
    if (text === undefined || levels === undefined) return undefined
    const template = DeviceTemplate.parse(text, levels)
    return typeof template === 'string' ? this.problem(node, `device ${template}`) : template
  }

  #identity(node: Node | undefined): 'reading' | 'message' | undefined {
    const text = this.#text('identity', node)
    if (text === undefined || text === 'reading' || text === 'message') return text
    return this.problem(node, 'identity must be reading or message')
  }

  #keepRaw(node: Node | undefined): number | undefined {
    const text = this.#text('keepRaw', node)
    if (text === undefined) return undefined
    const days = Number(/^([1-9]\d?)d$/.exec(text)?.[1])
    if (days <= maxKeepRawDays) return days
    return this.problem(node, `keepRaw must be days, such as 7d, and at most ${maxKeepRawDays}d`)
  }

  #mapping(members: Members): ReadingMapping | undefined {
    const [drop, rename, units] = [members.get('drop'), members.get('rename'), members.get('units')]
    if (drop === undefined && rename === undefined && units === undefined) return undefined
    const rules: MappingRules = { drop: this.#drop(drop), rename: this.#rename(rename), units: this.#units(units) }
    return new ReadingMapping(rules)
  }

  #drop(node: Node | undefined): string[] {
    if (node === undefined) return []
    const names: string[] = []
    if (!isSeq(node)) this.problem(node, 'drop must be a list of metrics')
    else if (this.#fits('drop', node))
      for (const item of node.items) {
        const name = this.#metric('drop', item as Node)
        if (name !== undefined) names.push(name)
      }
    return names
  }

  #rename(node: Node | undefined): [string, string][] {
    return this.#pairs('rename', node, (from, value) => {
      const to = this.#metric(`rename: the new name of ${from}`, value)
      if (to === undefined) return undefined
      if (to.includes('*') && !from.includes('*'))
        return this.problem(value, `rename: ${to} has a *, but ${from} has none that it could stand for`)
      return [from, to]
    })
  }

  #units(node: Node | undefined): [string, string | undefined][] {
    return this.#pairs('units', node, (metric, value) => {
      if (isScalar(value) && (value.value === null || value.value === '')) return [metric, undefined]
      const unit = this.#text(`units: the unit of ${metric}`, value)
      if (unit === undefined) return undefined
      if (Buffer.byteLength(unit) > 64)
        return this.problem(value, `units: the unit of ${metric} is longer than 64 bytes`)
      return [metric, unitOf(unit)]
    })
  }

  #pairs<Pair>(what: string, node: Node | undefined, pairOf: (name: string, value: Node) => Pair | undefined): Pair[] {
    if (node === undefined) return []
    const pairs: Pair[] = []
    if (!isMap(node)) this.problem(node, `${what} must be entries such as "temp: …"`)
    else if (this.#fits(what, node))
      for (const { key, value } of node.items) {
        const name = this.#metric(what, key as Node)
        const pair = name === undefined ? undefined : pairOf(name, value as Node)
        if (pair !== undefined) pairs.push(pair)
      }
    return pairs
  }

  #fits(what: string, node: Node & { readonly items: readonly unknown[] }): boolean {
    if (node.items.length <= maxNames) return true
    this.problem(node, `${what} has more than ${maxNames} entries`)
    return false
  }

  /** A metric's name; YAML takes `on` and `5` for what they are not. */
  #metric(what: string, node: Node): string | undefined {
    const name =
      isScalar(node) && ['string', 'number', 'boolean'].includes(typeof node.value)
        ? String(node.source ?? node.value)
        : ''
    if (name === '') return this.problem(node, `${what}: a metric must be text`)
    if (Buffer.byteLength(name) > 256) return this.problem(node, `${what}: a metric has at most 256 bytes`)
    if (name.indexOf('*') !== name.lastIndexOf('*')) return this.problem(node, `${what}: ${name} has more than one *`)
    return name
  }
}
