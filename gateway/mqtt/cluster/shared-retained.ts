import { randomUUID } from 'node:crypto'
import { eventsChannel, keys, tenantOf } from './keys.ts'
import type { Argument, RedisLink } from './redis-link.ts'
import { decodeMessage, readNumbered, type WireMessage } from './wire-message.ts'

/** How long retained messages outlive the last gateway: each gateway puts it off. */
export const retainedMs = 30 * 86_400_000
/** Messages of one call. */
const maxBatch = 100
const empty = Buffer.alloc(0)

interface Retained {
  /** By which messages for a topic have their order; of one that was retained without Redis, when that was. */
  readonly number: number
  readonly encoded: Buffer
}

/** What the broker of this gateway is told. */
export interface RetainedStore {
  keep(wire: WireMessage): void
  remove(insideTopic: string): void
}

/** Retained messages of all gateways: each has all of them, and Redis keeps them for those that start. */
export class SharedRetained {
  readonly #link: RedisLink
  readonly #store: RetainedStore
  readonly #byTopic = new Map<string, Retained>()
  /** Changed while Redis was away: an empty buffer for one that was removed. */
  readonly #unshared = new Map<string, Retained>()
  /** Which life of the data in Redis it was that we had the same as. */
  #generation: string | undefined

  constructor(link: RedisLink, store: RetainedStore) {
    this.#link = link
    this.#store = store
  }

  /** A message that is retained was delivered here, so the broker has it. @param number absent: Redis has not */
  note({ message }: WireMessage, encoded: Buffer, number?: number): void {
    const { insideTopic, payload } = message
    const isRemoved = payload.length === 0
    const retained = { number: number ?? Date.now() * 1000, encoded: isRemoved ? empty : encoded }
    if (isRemoved) this.#byTopic.delete(insideTopic)
    else this.#byTopic.set(insideTopic, retained)
    if (number === undefined) this.#unshared.set(insideTopic, retained)
  }

  /** Another gateway has brought a message that it took while Redis was away. */
  onKept(bytes: Buffer): void {
    const numbered = readNumbered(bytes)
    const wire = numbered === undefined ? undefined : decodeMessage(numbered.encoded)
    if (numbered !== undefined && wire !== undefined)
      this.#take(wire.message.insideTopic, wire, numbered.number, Buffer.from(numbered.encoded))
  }

  /** Another gateway has removed one. */
  onRemoved(bytes: Buffer): void {
    const numbered = readNumbered(bytes)
    if (numbered === undefined) return
    const topic = numbered.encoded.toString()
    const own = this.#byTopic.get(topic)
    if (own === undefined || own.number > numbered.number) return
    this.#byTopic.delete(topic)
    this.#store.remove(topic)
  }

  /** A message has expired. */
  expire(insideTopic: string): void {
    const retained = this.#byTopic.get(insideTopic)
    if (retained === undefined) return
    this.#byTopic.delete(insideTopic)
    if (!this.#link.isShared) return
    const tenant = tenantOf(insideTopic)
    const args = [retainedMs, tenant, eventsChannel(this.#link.commands), insideTopic, retained.number, empty]
    this.#link.run('retain', [keys.retained(tenant), keys.retainedTenants], args).catch(() => undefined)
  }

  /** Brings both sides to the same state. @throws what the link throws */
  async resync(): Promise<void> {
    const generation = await this.#link.ask(() => this.#link.commands.get(keys.generation))
    const isKnown = generation !== null && generation === this.#generation
    // A Redis that was emptied gets all that we have.
    await this.#push(isKnown ? this.#unshared : new Map([...this.#byTopic, ...this.#unshared]))
    this.#generation = await this.#link.ask(() => this.#generationOfNow())
    const upTo = Number((await this.#link.ask(() => this.#link.commands.get(keys.sequence))) ?? 0)
    const tenants = await this.#link.ask(() => this.#link.commands.smembers(keys.retainedTenants))
    const found = new Set<string>()
    for (const tenant of tenants) await this.#load(tenant, found)
    for (const [topic, { number }] of this.#byTopic)
      if (!found.has(topic) && number <= upTo) {
        this.#byTopic.delete(topic)
        this.#store.remove(topic)
      }
    this.#unshared.clear()
  }

  async #generationOfNow(): Promise<string | undefined> {
    const { commands } = this.#link
    await commands.set(keys.generation, randomUUID(), 'PX', retainedMs, 'NX')
    await commands.pexpire(keys.generation, retainedMs)
    return (await commands.get(keys.generation)) ?? undefined
  }

  async #push(changes: ReadonlyMap<string, Retained>): Promise<void> {
    const byTenant = new Map<string, [string, Retained][]>()
    for (const change of changes) {
      const tenant = tenantOf(change[0])
      const list = byTenant.get(tenant)
      if (list === undefined) byTenant.set(tenant, [change])
      else list.push(change)
    }
    for (const [tenant, list] of byTenant)
      for (let first = 0; first < list.length; first += maxBatch) {
        const args: Argument[] = [retainedMs, tenant, eventsChannel(this.#link.commands)]
        for (const [topic, { number, encoded }] of list.slice(first, first + maxBatch))
          args.push(topic, number, encoded)
        await this.#link.run('retain', [keys.retained(tenant), keys.retainedTenants], args)
      }
  }

  async #load(tenant: string, found: Set<string>): Promise<void> {
    const { commands } = this.#link
    const key = keys.retained(tenant)
    await this.#link.ask(() =>
      Promise.all([commands.pexpire(key, retainedMs), commands.pexpire(keys.retainedTenants, retainedMs)]),
    )
    const expired: Buffer[] = []
    let cursor = '0'
    do {
      const [next, fields] = await this.#link.ask(() => commands.hscanBuffer(key, cursor, 'COUNT', maxBatch))
      cursor = next.toString()
      for (let at = 0; at + 1 < fields.length; at += 2) {
        const topic = (fields[at] as Buffer).toString()
        const numbered = readNumbered(fields[at + 1] as Buffer)
        const wire = numbered === undefined ? undefined : decodeMessage(numbered.encoded)
        if (numbered === undefined || wire === undefined) expired.push(fields[at] as Buffer)
        else {
          found.add(topic)
          this.#take(topic, wire, numbered.number, Buffer.from(numbered.encoded))
        }
      }
    } while (cursor !== '0')
    if (expired.length > 0) await this.#link.ask(() => commands.hdel(key, ...expired))
  }

  #take(topic: string, wire: WireMessage, number: number, encoded: Buffer): void {
    const own = this.#byTopic.get(topic)
    if (own !== undefined && own.number >= number) return
    this.#byTopic.set(topic, { number, encoded })
    this.#store.keep(wire)
  }
}
