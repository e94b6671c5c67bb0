import type { Client } from '../client.ts'
import type { GrantedFilter } from '../granted-filter.ts'
import type { KeptSubscription, SessionStore, WaitingMessage } from '../session-store.ts'
import { decodeMessage, encodeMessage, readNumbered } from './wire-message.ts'

/** A filter of a session, with its options. */
export interface KeptFilter extends GrantedFilter {
  readonly nl: boolean
  readonly rap: boolean
  readonly rh: number
}

/** A session as it lies in Redis. */
export interface KeptSession {
  readonly filters: readonly KeptFilter[]
  readonly messages: readonly WaitingMessage[]
  /** The number of the last message of all when it was read. */
  readonly upTo: number
}

/** @param reply of load.lua @returns undefined when a later connection has it */
export function readSession(reply: unknown): KeptSession | undefined {
  const [upTo, filters, entries] = reply as [Buffer?, Buffer?, [Buffer, Buffer[]][]?]
  if (upTo === undefined || filters === undefined || entries === undefined) return undefined
  const messages: WaitingMessage[] = []
  for (const [, fields] of entries) {
    const numbered = readNumbered(fields[1] ?? Buffer.alloc(0))
    const wire = numbered === undefined ? undefined : decodeMessage(numbered.encoded)
    if (numbered !== undefined && wire !== undefined)
      messages.push({ number: numbered.number, message: wire.message, expiresAtMs: wire.expiresAtMs })
  }
  return { filters: JSON.parse(filters.toString()) as KeptFilter[], messages, upTo: Number(upTo.toString()) }
}

/** The filters of a client as they are kept, for save.lua: all, those that messages are queued for, and their groups. */
export async function filtersOf(client: Client, store: SessionStore): Promise<[string, string, string]> {
  const options = new Map(
    (await store.subscriptionsOf(client.id)).map((subscription) => [subscription.topic, subscription]),
  )
  const filters: KeptFilter[] = []
  for (const filter of client.filters.values()) {
    const subscription = options.get(filter.inside)
    if (subscription === undefined) continue
    const { nl = false, rap = false, rh = 0 } = subscription
    filters.push({ ...filter, nl, rap, rh })
  }
  const queued = filters.filter(({ qos }) => qos > 0)
  const match = queued.map(({ inside, nl }) => `${nl ? '1' : '0'}${inside}\0`).join('')
  const groups = [...new Set(queued.map(({ hidden }) => `${hidden}\0`))].join('')
  return [JSON.stringify(filters), match, groups]
}

export function subscriptionOf({ inside, qos, nl, rap, rh }: KeptFilter): KeptSubscription {
  return { topic: inside, qos, nl, rap, rh }
}

/** A message that only this gateway has, for the queue of its session in Redis. */
export function encodeWaiting({ message, expiresAtMs }: WaitingMessage, gateway: string): Buffer {
  return encodeMessage({ gateway, count: 0, from: '', owner: '', expiresAtMs, message })
}
