import type { Metrics } from '#platform/metrics.ts'
import { secondsBounds } from '#platform/metrics.ts'
import { type ReasonCode, reasonCodes } from '#schema/reason-code.ts'
import type { Source } from '#schema/telemetry-event.ts'

const sources = ['mqtt', 'http'] as const

/**
 * The gateway's side of the books: received = accepted + ignored + refused by reason + in hand, in messages.
 * Plain numbers on the message path; the scrape copies them into metrics.
 */
export interface Accounts {
  received(source: Source): void
  /** @param count more than 1 where one message speaks for several devices, since the worker counts each */
  accepted(source: Source, count: number, seconds: number): void
  ignored(source: Source, seconds: number): void
  /** Messages that were dead letters, and went down the path once more: received and accepted, so that the worker's side adds up. */
  replayed(source: Source, count: number): void
  refused(source: Source, reason: ReasonCode): void
  /** A message that was refused before it reached the pipeline: received and refused at once. */
  turnedAway(source: Source, reason: ReasonCode): void
  inHand(): number
}

export function createAccounts(metrics: Metrics): Accounts {
  const books = { mqtt: new Book(), http: new Book() }
  const ackSeconds = metrics.histogram(
    'fleetbridge_ack_duration_seconds',
    'From the arrival of a message to its acknowledgement',
    secondsBounds,
  )
  metrics.totals('fleetbridge_received_messages_total', 'Messages that arrived', ['source'], () =>
    sources.map((source) => [{ source }, books[source].received] as const),
  )
  metrics.totals(
    'fleetbridge_messages_total',
    'Messages by what became of them; received = accepted + ignored + refused + in hand',
    ['source', 'result', 'reason'],
    () => sources.flatMap((source) => books[source].series(source)),
  )
  let replays = 0
  metrics.totals(
    'fleetbridge_replayed_messages_total',
    'Messages of replayed dead letters, counted as accepted too',
    [],
    () => [[{}, replays] as const],
  )
  const inHand = () => books.mqtt.inHand() + books.http.inHand()
  metrics.gauge('fleetbridge_in_hand_messages', 'Messages that arrived and are not answered yet', inHand)
  return {
    received(source) {
      books[source].received++
    },
    accepted(source, count, seconds) {
      const book = books[source]
      book.accepted += count
      book.received += count - 1
      ackSeconds.observe(seconds)
    },
    ignored(source, seconds) {
      books[source].ignored++
      ackSeconds.observe(seconds)
    },
    replayed(source, count) {
      books[source].received += count
      books[source].accepted += count
      replays += count
    },
    refused(source, reason) {
      const { refused } = books[source]
      refused.set(reason, (refused.get(reason) ?? 0) + 1)
      books[source].refusals++
    },
    turnedAway(source, reason) {
      books[source].received++
      this.refused(source, reason)
    },
    inHand,
  }
}

class Book {
  received = 0
  accepted = 0
  ignored = 0
  refusals = 0
  readonly refused = new Map<ReasonCode, number>()

  series(source: Source) {
    const series: [{ source: Source; result: string; reason: string }, number][] = [
      [{ source, result: 'accepted', reason: '' }, this.accepted],
      [{ source, result: 'ignored', reason: '' }, this.ignored],
    ]
    for (const reason of reasonCodes)
      series.push([{ source, result: 'refused', reason }, this.refused.get(reason) ?? 0])
    return series
  }

  inHand(): number {
    return this.received - this.accepted - this.ignored - this.refusals
  }
}
