import type { Source } from '#schema/telemetry-event.ts'
import type { RawReading } from '../normalize/codec.ts'
import { mediaTypeOf } from '../normalize/media-type.ts'
import type { TemplateValues } from './device-template.ts'
import type { RouteRule } from './route-rule.ts'
import { TopicTree } from './topic-tree.ts'

/** What a message says that a route may ask for; an `Ingress` is one. */
export interface Routed {
  readonly source: Source
  /** MQTT topic name, or the path of the request with its query. */
  readonly topic: string
  readonly contentType: string | undefined
  readonly principal: { readonly tenant: string }
}

/** A rule as it applies to one topic. */
export interface Route {
  readonly rule: RouteRule
  /**
   * The device that the rule's template names for a message; undefined without one, and when the template wants the codec's device first.
   * @param client the credential's own device
   */
  deviceOf(client: string): string | undefined
  /**
   * The readings as the rule wants them: left out, renamed, with other units.
   * @param names whether they are of the device that the template names, too
   * @param client the credential's own device
   */
  apply(readings: readonly RawReading[], client: string, names: boolean): readonly RawReading[]
}

/** Where the rules that are in force now are found; they may be others at the next message. */
export interface Routes {
  /** The first rule that fits; undefined: the default order decides. */
  find(routed: Routed): Route | undefined
  /** Whether a rule may fit a path, whoever asks. @param topic with its query */
  hasPath(topic: string): boolean
}

/** Topics whose rules are remembered, of all connections together. */
const maxTopics = 10_000
const maxTopicLength = 512
const none: readonly Route[] = []

/** The rules in their order, and for every topic that was seen those that its name fits: finding them costs one look-up from then on. */
export class RouteTable implements Routes {
  readonly size: number
  readonly #mqtt: SourceTable
  readonly #http: SourceTable

  constructor(rules: readonly RouteRule[]) {
    this.size = rules.length
    this.#mqtt = new SourceTable(rules.filter(({ source }) => source === 'mqtt'))
    this.#http = new SourceTable(rules.filter(({ source }) => source === 'http'))
  }

  find({ source, topic, contentType, principal }: Routed): Route | undefined {
    const candidates = source === 'mqtt' ? this.#mqtt.candidatesOf(topic) : this.#http.candidatesOf(withoutQuery(topic))
    for (const route of candidates) {
      const { rule } = route
      if (rule.tenant !== undefined && rule.tenant !== principal.tenant) continue
      if (rule.contentType === undefined || rule.contentType === mediaTypeOf(contentType)) return route
    }
    return undefined
  }

  hasPath(topic: string): boolean {
    return this.#http.candidatesOf(withoutQuery(topic)).length > 0
  }
}

class SourceTable {
  readonly #tree = new TopicTree<{ readonly order: number; readonly rule: RouteRule }>()
  readonly #isEmpty: boolean
  readonly #known = new Map<string, readonly Route[]>()

  constructor(rules: readonly RouteRule[]) {
    this.#isEmpty = rules.length === 0
    for (const [order, rule] of rules.entries()) this.#tree.add(rule.levels, { order, rule })
  }

  candidatesOf(topic: string): readonly Route[] {
    if (this.#isEmpty) return none
    const known = this.#known.get(topic)
    if (known !== undefined) return known
    const levels = topic.split('/')
    const found = this.#tree.find(levels).sort((one, other) => one.order - other.order)
    const routes = found.length === 0 ? none : found.map(({ rule }) => new TopicRoute(rule, levels))
    if (topic.length <= maxTopicLength) {
      if (this.#known.size >= maxTopics) this.#known.clear()
      this.#known.set(topic, routes)
    }
    return routes
  }
}

class TopicRoute implements Route {
  readonly rule: RouteRule
  readonly #plus: readonly string[]
  readonly #rest: string

  constructor(rule: RouteRule, topic: readonly string[]) {
    this.rule = rule
    const level = rule.source === 'http' ? percentDecoded : same
    this.#plus = topic.filter((_, index) => rule.levels[index] === '+').map(level)
    this.#rest =
      rule.levels.at(-1) === '#'
        ? topic
            .slice(rule.levels.length - 1)
            .map(level)
            .join('/')
        : ''
  }

  deviceOf(client: string): string | undefined {
    const { device } = this.rule
    return device === undefined || device.needsDevice ? undefined : device.fill(this.#values(client))
  }

  apply(readings: readonly RawReading[], client: string, names: boolean): readonly RawReading[] {
    const { mapping } = this.rule
    const device = names ? this.rule.device : undefined
    if (mapping === undefined && device === undefined) return readings
    const values = this.#values(client)
    const applied: RawReading[] = []
    for (const reading of readings) {
      const mapped = mapping === undefined ? reading : mapping.apply(reading)
      if (mapped === undefined) continue
      const name = device === undefined ? mapped.device : device.fill(values, mapped.device)
      applied.push(name === mapped.device ? mapped : { ...mapped, device: name })
    }
    return applied
  }

  #values(client: string): TemplateValues {
    return { plus: this.#plus, rest: this.#rest, client }
  }
}

const same = (level: string) => level

/** After splitting, so that `%2F` is part of a level. */
function percentDecoded(level: string): string {
  if (!level.includes('%')) return level
  try {
    return decodeURIComponent(level)
  } catch {
    return level
  }
}

function withoutQuery(topic: string): string {
  const query = topic.indexOf('?')
  return query < 0 ? topic : topic.slice(0, query)
}
