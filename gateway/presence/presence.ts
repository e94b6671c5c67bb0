import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { uuidV7 } from '#platform/uuid-v7.ts'
import type { DeviceEvent, DeviceEventRecord, ReportedKind } from '#schema/device-event.ts'
import type { Principal } from '../auth/principal.ts'
import type { DeviceEventSink, LimitedEvent } from '../limited-devices.ts'
import type { DeviceEventWriter } from './device-event-writer.ts'

/** A connection that others shall know of. */
export interface LiveSession {
  readonly id: string
  readonly tenant: string
  readonly device: string
  readonly client: string
  readonly epoch: number
  readonly connectedUs: number
}

/** Hears of connections from the MQTT source. Never throws, never waits. */
export interface Presence extends DeviceEventSink {
  connected(principal: Principal, client: string, epoch: number): LiveSession
  /** @param kind disconnected: by its word or ours; lost: without a word */
  ended(session: LiveSession, kind: 'disconnected' | 'lost', reason: string): void
}

export interface PresenceOptions {
  readonly writer: DeviceEventWriter
  /** How long a gateway may be still before its sessions are lost. */
  readonly expirySeconds: number
  readonly log: Log
  readonly metrics: Metrics
  /** For tests. */
  readonly flushMs?: number
  readonly maxQueued?: number
  readonly takenOverMs?: number
}

const maxBatch = 1000
const pauseMs = 500
const closeMs = 3000
const logEveryMs = 30_000

/**
 * Says who is connected, in batches, beside the message path. What waits is bounded: past the bound it is all dropped, and a new incarnation says
 * of each connection that is open then that it is; what had been said under the one before ends by itself, since nobody gives signs of life
 * of it any more. So however long the log is away, the last word is right. The same is done after a silence in which others may have taken
 * this process for dead.
 */
export function startPresence({
  writer,
  expirySeconds,
  log,
  metrics,
  flushMs = 200,
  maxQueued = 50_000,
  takenOverMs = 2000,
}: PresenceOptions): Presence & Handle {
  const gateway = `${hostname().slice(0, 100)}-${randomBytes(4).toString('hex')}`
  const beatMs = (expirySeconds * 1000) / 3
  let incarnation = Date.now() * 1000
  const live = new Set<LiveSession>()
  let queue: DeviceEvent[] = []
  /** Ends of connections that were taken over. The word of the next connection may come from another gateway, and shall be there first. */
  let late: { readonly event: DeviceEvent; readonly atMs: number }[] = []
  /** Connections that the new incarnation has not named yet. */
  let unnamed: Iterator<LiveSession> | undefined
  let inHand: DeviceEventRecord[] = []
  let running: Promise<void> | undefined
  let beatAtMs = Number.NEGATIVE_INFINITY
  let notBeforeMs = 0
  let loggedMs = Number.NEGATIVE_INFINITY
  const counts = { sent: 0, dropped: 0, renewed: 0 }
  metrics.totals('fleetbridge_device_events_sent_total', 'Device events that the event log has taken', [], () => [
    [{}, counts.sent],
  ])
  metrics.totals(
    'fleetbridge_device_events_dropped_total',
    'Device events dropped since the event log was away too long; who is connected was said anew',
    [],
    () => [[{}, counts.dropped]],
  )
  metrics.totals('fleetbridge_presence_renewals_total', 'Times that all connections were said anew', [], () => [
    [{}, counts.renewed],
  ])
  metrics.gauge('fleetbridge_device_events_waiting', 'Device events that wait for the event log', () => {
    return queue.length + late.length + inHand.length
  })

  function sessionOf({ client, epoch, connectedUs }: LiveSession) {
    return { client, epoch, gateway, incarnation, connectedUs }
  }
  function connectedEvent(session: LiveSession): DeviceEvent {
    const { id, tenant, device, connectedUs } = session
    return { v: 1, id, tenant, device, kind: 'connected', timeUs: connectedUs, session: sessionOf(session) }
  }
  function push(event: DeviceEvent): void {
    if (queue.length + late.length >= maxQueued) {
      counts.dropped += queue.length + late.length
      queue = []
      late = []
      renew()
    }
    queue.push(event)
  }
  /** Those that have waited; in order, since each waits as long. */
  function pushLate(nowMs: number): void {
    let count = 0
    while (count < late.length && (late[count]?.atMs as number) <= nowMs) count++
    for (const { event } of late.splice(0, count)) push(event)
  }
  function renew(): void {
    incarnation = Math.max(Date.now() * 1000, incarnation + 1)
    unnamed = live.values()
    beatAtMs = Number.NEGATIVE_INFINITY
    counts.renewed++
  }

  function nextBatch(nowMs: number): DeviceEventRecord[] {
    const batch: DeviceEventRecord[] = []
    if (nowMs - beatAtMs >= beatMs)
      batch.push({ v: 1, kind: 'gateway', gateway, incarnation, timeUs: Date.now() * 1000 })
    while (unnamed !== undefined && batch.length < maxBatch) {
      const { value, done } = unnamed.next()
      if (done === true) unnamed = undefined
      else batch.push(connectedEvent(value))
    }
    if (batch.length < maxBatch) batch.push(...queue.splice(0, maxBatch - batch.length))
    return batch
  }

  /** One batch after the other until there is nothing to say. */
  async function run(): Promise<void> {
    for (;;) {
      const startedMs = performance.now()
      // Others may have ended what it said, or will before they hear of it again.
      if (Number.isFinite(beatAtMs) && startedMs - beatAtMs > 2 * beatMs) renew()
      pushLate(startedMs)
      if (inHand.length === 0) inHand = nextBatch(startedMs)
      if (inHand.length === 0) return
      try {
        await writer.write(inHand)
      } catch (error) {
        notBeforeMs = performance.now() + pauseMs
        if (performance.now() - loggedMs > logEveryMs) {
          loggedMs = performance.now()
          log.warn({ err: error, waiting: queue.length + inHand.length }, 'device events wait for the event log')
        }
        return
      }
      if (inHand.some((record) => record.kind === 'gateway' && record.incarnation === incarnation)) beatAtMs = startedMs
      counts.sent += inHand.length
      inHand = []
    }
  }

  function flush(): void {
    if (running !== undefined || performance.now() < notBeforeMs) return
    running = run().finally(() => {
      running = undefined
    })
  }
  const timer = setInterval(flush, flushMs)
  timer.unref()

  return {
    connected({ tenant, device }, client, epoch) {
      const session = { id: uuidV7(), tenant, device, client, epoch, connectedUs: Date.now() * 1000 }
      live.add(session)
      push(connectedEvent(session))
      return session
    },
    ended(session, kind, reason) {
      if (!live.delete(session)) return
      const event = { ...eventOf(session, kind), session: sessionOf(session), details: { reason } }
      if (reason === 'taken_over') late.push({ event, atMs: performance.now() + takenOverMs })
      else push(event)
    },
    write(events: readonly LimitedEvent[]) {
      for (const { tenant, device, limit, messages, waitMs, at } of events)
        push({ ...eventOf({ tenant, device }, 'limited', at), details: { limit, messages, waitMs } })
    },
    ...handleOf(async () => {
      clearInterval(timer)
      pushLate(Number.POSITIVE_INFINITY)
      const deadlineMs = performance.now() + closeMs
      while (queue.length + inHand.length > 0 && performance.now() < deadlineMs) {
        await running
        notBeforeMs = 0
        flush()
        await Promise.race([running, new Promise((resolve) => setTimeout(resolve, pauseMs).unref())])
      }
      await writer.close()
    }),
  }
}

function eventOf(
  { tenant, device }: { readonly tenant: string; readonly device: string },
  kind: ReportedKind,
  atMs = Date.now(),
): DeviceEvent {
  return { v: 1, id: uuidV7(), tenant, device, kind, timeUs: Math.round(atMs * 1000) }
}
