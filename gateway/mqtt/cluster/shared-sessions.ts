import type { Client } from '../client.ts'
import type { AcceptedConnect } from '../connect.ts'
import { insideName } from '../device-topics.ts'
import type { Front } from '../front.ts'
import { Acknowledgements } from './acknowledgements.ts'
import { encodeWaiting, filtersOf, type KeptSession, readSession, subscriptionOf } from './kept-session.ts'
import { eventsChannel, keys, prefix } from './keys.ts'
import type { Argument, RedisLink } from './redis-link.ts'

/** A connection took a client id on some gateway. */
export interface Takeover {
  readonly id: string
  readonly epoch: string
  readonly gateway: string
  /** The gateway that has to let go first; '' for none. */
  readonly from: string
  /** Whether it goes on with the session. */
  readonly resumes: boolean
}

/** How a connection may go on with its client id. */
export interface Joined {
  /** Whether there is a session to go on with. */
  readonly resumes: boolean
  /** Brings the session here before the broker sees the CONNECT. */
  readonly prepare: (() => Promise<void>) | undefined
}

/** Longest wait for another gateway to write what its client has acknowledged. */
const releaseMs = 250
/** Longest that messages are kept aside for a session that does not come. */
const expectMs = 10_000
/** How much longer than its session a record is kept while its client is connected, which is more than one round of `touch`. */
const spareMs = 900_000
const touchMs = 300_000
const listenersMs = 8 * 86_400_000
/** Clients that are brought to Redis at a time. */
const atOnce = 50

/**
 * Sessions of all gateways. Redis says by an epoch which connection of a client id is the latest one, and keeps filters and queue of each
 * session that outlives its connection; the gateway that had the connection last has them in its broker, too, as if there were no other.
 */
export class SharedSessions {
  readonly #link: RedisLink
  readonly #front: Front
  readonly #acknowledged: Acknowledgements
  /** Connections that wait for another gateway, by inside id and epoch. */
  readonly #releases = new Map<string, () => void>()
  /** While both sides are brought together: what Redis does not know yet. */
  readonly #unshared = new Set<Client>()
  readonly #toSave = new Set<Client>()
  readonly #touching: NodeJS.Timeout

  constructor(link: RedisLink, front: Front) {
    this.#link = link
    this.#front = front
    this.#acknowledged = new Acknowledgements(link)
    this.#touching = setInterval(() => void this.#touchAll(), touchMs)
  }

  /**
   * Takes the client id for a new connection. Without Redis it goes on with what this gateway has.
   * @param isKnown whether this gateway has a session that it may go on with
   * @returns undefined when a later connection has it already
   */
  async join(client: Client, connect: AcceptedConnect, isKnown: boolean): Promise<Joined | undefined> {
    client.joining++
    const before = client.epoch
    try {
      return await this.#join(client, connect)
    } catch (error) {
      // Else Redis is away, and the link has said so. A take-over that was done all the same is found at the next resync.
      if (this.#link.isShared) this.#front.log.error({ err: error }, 'a session could not be taken over')
      client.epoch = Math.max(Date.now() * 1000, before + 1)
      client.keptEpoch = client.epoch
      this.#changed(client)
      return { resumes: isKnown && !connect.clean, prepare: undefined }
    } finally {
      client.joining--
    }
  }

  /**
   * A connection is over, and no other of this gateway has its client id.
   * @param sessionSeconds how long the session stays
   */
  leave(client: Client, sessionSeconds = client.sessionSeconds): void {
    if (client.joining > 0) return // it leaves once it knows what
    const { epoch } = client
    if (!this.#toSave.delete(client) || sessionSeconds === 0) this.#end(client, sessionSeconds)
    else
      this.#save(client).then(
        () => client.epoch === epoch && client.connection === undefined && this.#end(client, sessionSeconds),
        () => this.#changed(client),
      )
  }

  /** The session of a client without a connection is over. */
  forget(client: Client): void {
    client.keptEpoch = 0
    if (client.epoch > 0) this.#end(client, 0)
  }

  /** Its filters have changed. */
  save(client: Client): void {
    if (client.sessionSeconds === 0 || this.#toSave.has(client)) return
    if (this.#toSave.size === 0)
      setImmediate(() => {
        for (const each of this.#toSave) this.#save(each).catch(() => this.#changed(each))
        this.#toSave.clear()
      })
    this.#toSave.add(client)
  }

  /** A client has acknowledged what it was sent under a packet id. */
  acknowledged(client: Client, packetId: number): void {
    const number = this.#front.broker.sessions.numberOf(client.id, packetId)
    if (number !== undefined) this.#acknowledged.add(client.id, number)
  }

  onTakeover({ id, epoch, gateway, from, resumes }: Takeover): void {
    if (gateway === this.#link.id) return
    const client = this.#front.clients.find(id)
    if (client !== undefined) this.#lose(client, Number(epoch), resumes)
    if (from !== this.#link.id) return
    this.#acknowledged.flush(id)
    const { commands } = this.#link
    this.#link
      .ask(() => commands.publish(eventsChannel(commands), `r${JSON.stringify({ id, epoch })}`))
      .catch(() => undefined)
  }

  onReleased({ id, epoch }: { id: string; epoch: string }): void {
    this.#releases.get(`${epoch}/${id}`)?.()
  }

  /** Brings what is here to Redis, and what was queued there meanwhile to here. @throws what the link throws */
  async resync(): Promise<void> {
    this.#unshared.clear()
    for (const client of this.#front.clients) if (client.epoch > 0) this.#unshared.add(client)
    while (this.#unshared.size > 0) {
      const some = [...this.#unshared].slice(0, atOnce)
      for (const client of some) this.#unshared.delete(client)
      try {
        await Promise.all(some.map((client) => this.#restore(client)))
      } catch (error) {
        for (const client of some) this.#unshared.add(client)
        throw error
      }
    }
  }

  close(): void {
    clearInterval(this.#touching)
  }

  /** Redis has not heard of it: the next resync brings all that is here, and one that has begun this, too. */
  #changed(client: Client): void {
    if (this.#link.isResyncing) this.#unshared.add(client)
  }

  async #join(client: Client, connect: AcceptedConnect): Promise<Joined | undefined> {
    // While both sides are being brought together, too: then it is brought as it is now.
    if (!this.#link.isShared) throw new Error('not shared')
    this.#acknowledged.flush(client.id)
    const args = [
      client.id,
      this.#link.id,
      Math.max(client.epoch, client.epochElsewhere),
      connect.clean ? '1' : '0',
      connect.sessionSeconds,
      rightsOf(client),
      eventsChannel(this.#link.commands),
      connect.sessionSeconds * 1000 + spareMs,
      prefix,
    ]
    const reply = await this.#link.run('join', this.#keysOf(client), args)
    const [epoch, isPresent, isElsewhere, epochBefore] = reply as [Buffer, number, number, Buffer]
    client.epoch = Number(epoch.toString())
    if (client.epochElsewhere > client.epoch) return undefined
    if (isElsewhere === 1) client.pacing.takenOver(performance.now())
    if (isPresent === 0) {
      const { epoch } = client
      const prepare = async () => {
        if (!isLatest(client, epoch)) return
        await this.#front.broker.sessions.replace(client.id, [])
        client.keptEpoch = epoch
      }
      return { resumes: false, prepare }
    }
    if (isElsewhere === 1) await this.#released(client)
    return await this.#fetch(client, Number(epochBefore.toString()))
  }

  /** @param epochBefore if that was at this gateway, it has the session but for what came while it could not hear of it */
  async #fetch(client: Client, epochBefore: number): Promise<Joined | undefined> {
    const { sessions } = this.#front.broker
    sessions.expect()
    let isExpected = true
    const arrived = () => {
      clearTimeout(timer)
      if (isExpected) sessions.arrived()
      isExpected = false
    }
    // The connection may end before its turn.
    const timer = setTimeout(arrived, expectMs).unref()
    try {
      const session = await this.#load(client)
      if (session === undefined || client.epochElsewhere > client.epoch) {
        arrived()
        return undefined
      }
      const { epoch } = client
      const prepare = async () => {
        // Taken over meanwhile: the broker must not keep what nobody would forget.
        if (!isLatest(client, epoch)) return arrived()
        const subscriptions = session.filters.map(subscriptionOf)
        const isHere = client.keptEpoch > 0 && client.keptEpoch === epochBefore
        if (!isHere) {
          client.forgetSession()
          for (const { nl, rap, rh, ...filter } of session.filters) client.filters.set(filter.inside, filter)
          await sessions.replace(client.id, subscriptions)
        }
        await sessions.complete(client.id, this.#unacknowledged(client, session), session.upTo, subscriptions)
        client.keptEpoch = epoch
        if (isHere) this.save(client)
        arrived()
      }
      return { resumes: true, prepare }
    } catch (error) {
      arrived()
      throw error
    }
  }

  async #load({ id, epoch }: Client): Promise<KeptSession | undefined> {
    return readSession(await this.#link.run('load', [keys.session(id), keys.queue(id), keys.sequence], [epoch]))
  }

  #unacknowledged({ id }: Client, { messages }: KeptSession) {
    return messages.filter(({ number }) => !this.#acknowledged.has(id, number))
  }

  #released({ id, epoch }: Client): Promise<void> {
    return new Promise((resolve) => {
      const name = `${epoch}/${id}`
      const released = () => {
        clearTimeout(timer)
        this.#releases.delete(name)
        resolve()
      }
      const timer = setTimeout(released, releaseMs)
      this.#releases.set(name, released)
    })
  }

  /** Another gateway has it. */
  #lose(client: Client, epoch: number, resumes: boolean): void {
    client.epochElsewhere = Math.max(client.epochElsewhere, epoch)
    // One that is about to join hears from Redis which of the two is the later.
    if (client.joining > 0 || client.epoch >= epoch) return
    client.connection?.takeOver()
    if (resumes) this.#front.wills.cancel(client)
    else this.#front.wills.sayNow(client)
    client.forgetSession()
    client.sessionSeconds = 0
    client.keptEpoch = 0
    this.#unshared.delete(client)
    this.#front.broker.forget(client.id)
  }

  #end(client: Client, seconds: number): void {
    this.#acknowledged.flush(client.id)
    this.#link
      .run('leave', this.#keysOf(client), [client.id, client.epoch, seconds, prefix])
      .catch(() => this.#changed(client))
  }

  async #save(client: Client): Promise<void> {
    const filters = await filtersOf(client, this.#front.broker.sessions)
    const args = [client.id, client.epoch, ...filters, prefix, listenersMs]
    await this.#link.run('save', [keys.session(client.id)], args)
  }

  async #restore(client: Client): Promise<void> {
    const isLive = client.connection !== undefined
    const isKept = client.keptEpoch === client.epoch
    if (client.joining > 0 || (!isLive && !(isKept && client.hasSession(performance.now())))) return
    const { epoch, id, sessionSeconds } = client
    const waiting = sessionSeconds === 0 ? [] : await this.#front.broker.sessions.waitingOf(id)
    const args: Argument[] = [
      id,
      this.#link.id,
      epoch,
      isLive ? '1' : '0',
      sessionSeconds,
      rightsOf(client),
      eventsChannel(this.#link.commands),
      sessionSeconds * 1000 + (isLive ? spareMs : 0),
      prefix,
      ...waiting.flatMap(({ waiting: one }): Argument[] => [one.number, encodeWaiting(one, this.#link.id)]),
    ]
    const reply = (await this.#link.run('restore', [...this.#keysOf(client), keys.sequence], args)) as Buffer[]
    if (reply[0]?.toString() === '0') {
      if (client.epoch === epoch) this.#lose(client, epoch + 1, true)
      return
    }
    waiting.forEach(({ setNumber }, index) => {
      const number = Number(reply[index + 1]?.toString() ?? 0)
      if (number > 0) setNumber(number)
    })
    this.#acknowledged.flush(id)
    if (sessionSeconds === 0) return
    await this.#save(client)
    await this.#catchUp(client)
  }

  /** What other gateways have queued while this one could not hear of it. */
  async #catchUp(client: Client): Promise<void> {
    const { sessions } = this.#front.broker
    sessions.expect()
    try {
      const session = await this.#load(client)
      if (session === undefined) return
      const subscriptions = session.filters.map(subscriptionOf)
      await sessions.complete(client.id, this.#unacknowledged(client, session), session.upTo, subscriptions)
    } finally {
      sessions.arrived()
    }
  }

  /** So that no record ends before its connection, and a take-over that nobody heard of is found. */
  async #touchAll(): Promise<void> {
    for (const client of this.#front.clients) {
      if (!this.#link.isShared) return
      if (client.connection === undefined || client.joining > 0 || client.epoch === 0) continue
      const { epoch, sessionSeconds } = client
      const reply = await this.#link
        .run('touch', this.#keysOf(client), [epoch, sessionSeconds * 1000 + spareMs])
        .catch(() => undefined)
      if (client.epoch !== epoch || reply === undefined) continue
      if (reply === null) await this.#restore(client).catch(() => undefined)
      else if (Number(String(reply)) > epoch) this.#lose(client, Number(String(reply)), true)
    }
  }

  #keysOf({ id, principal }: Client): string[] {
    return [keys.session(id), keys.queue(id), keys.device(insideName(principal))]
  }
}

/** Whether no other connection has the client id since that epoch. */
function isLatest(client: Client, epoch: number): boolean {
  return client.epoch === epoch && client.epochElsewhere < epoch
}

/** A session belongs to what its credential might do then: one with other rights begins anew. */
function rightsOf({ principal }: Client): string {
  return `${principal.operator ? 'operator' : ''}${principal.fleet ? 'fleet' : ''}`
}
