import { createHmac } from 'node:crypto'
import type pg from 'pg'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'

export interface WebhookTarget {
  readonly url: URL
  readonly secret: string
}

/** @throws BridgeError BRIDGE_CONFIG_INVALID for an address that cannot be called, or one without a secret */
export function webhookTarget({ url: text, secret }: Config['webhook']): WebhookTarget | undefined {
  if (text === undefined) return undefined
  const url = URL.parse(text)
  if (
    url === null ||
    (url.protocol !== 'http:' && url.protocol !== 'https:') ||
    url.username !== '' ||
    url.password !== ''
  )
    throw new BridgeError(
      'BRIDGE_CONFIG_INVALID',
      'BRIDGE_WEBHOOK_URL is not an http(s) address without user and password',
    )
  if (secret === undefined)
    throw new BridgeError(
      'BRIDGE_CONFIG_INVALID',
      'BRIDGE_WEBHOOK_URL needs BRIDGE_WEBHOOK_SECRET, or its receiver could not tell us from others: openssl rand -hex 24',
    )
  return { url, secret }
}

/** Headers of one delivery: the signature is over `timestamp.body`. */
export function signedHeaders(secret: string, id: string, body: string, nowMs: number): Record<string, string> {
  const timestamp = String(Math.floor(nowMs / 1000))
  const signature = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')
  return {
    'content-type': 'application/json',
    'idempotency-key': id,
    'fleetbridge-timestamp': timestamp,
    'fleetbridge-signature': `v1=${signature}`,
  }
}

export interface WebhookOptions {
  readonly pool: Pick<pg.Pool, 'query'>
  readonly log: Log
  /** Counted up: calls by what became of them. */
  readonly counts?: { taken: number; failed: number }
  /** For tests: the first wait after a failure, which doubles up to five minutes. */
  readonly firstRetryMs?: number
  readonly pollMs?: number
}

interface Delivery {
  readonly id: string
  readonly eventId: string
  readonly body: string
  readonly attempts: number
}

const atOnce = 50
const answerMs = 10_000
/** Longer than an answer may take: past it another worker takes the delivery over. */
const leaseSeconds = 30
const longestRetryMs = 300_000
const longestPauseMs = 30_000
const logEveryMs = 60_000

/**
 * Brings what waits in webhook_delivery to the receiver: at least once, and of each subject in order, since only its first one is ever on its way.
 * Several workers share the work: who takes a delivery holds it by a lease.
 */
export function startWebhook({ url, secret }: WebhookTarget, options: WebhookOptions): Handle {
  const { pool, log, counts = { taken: 0, failed: 0 }, firstRetryMs = 1000, pollMs = 500 } = options
  const stopping = new AbortController()
  let failuresInRow = 0
  let loggedMs = Number.NEGATIVE_INFINITY

  /** @returns why it was not taken; undefined when it was */
  async function call({ eventId, body }: Delivery): Promise<string | undefined> {
    try {
      const response = await fetch(url, {
        method: 'POST',
        body,
        headers: signedHeaders(secret, eventId, body, Date.now()),
        redirect: 'manual', // it was the operator who chose where we go
        signal: AbortSignal.any([AbortSignal.timeout(answerMs), stopping.signal]),
      })
      await response.body?.cancel().catch(() => undefined)
      return response.ok ? undefined : `status ${response.status}`
    } catch (error) {
      // Never the error itself: it may name the address, and that may hold a secret.
      const { name, cause } = error as { name?: string; cause?: { code?: string } }
      return cause?.code ?? name ?? 'unknown'
    }
  }

  async function round(): Promise<boolean> {
    // While it fails, one call is enough to see that it works again.
    const { rows } = await pool.query<Delivery>({
      text: `with heads as (
          select distinct on (subject) id, next_at from webhook_delivery where done_at is null order by subject, id
        ), mine as (
          select d.id from webhook_delivery d join heads h on h.id = d.id
          where h.next_at <= clock_timestamp() and d.next_at <= clock_timestamp() and d.done_at is null
          order by d.id limit $1 for update of d skip locked
        )
        update webhook_delivery d set next_at = clock_timestamp() + make_interval(secs => $2) from mine
        where d.id = mine.id returning d.id, d.event_id as "eventId", d.body::text as body, d.attempts`,
      values: [failuresInRow > 0 ? 1 : atOnce, leaseSeconds],
    })
    if (rows.length === 0) return false
    const whys = await Promise.all(rows.map(call))
    const taken = rows.filter((_, index) => whys[index] === undefined)
    const failed = rows.filter((_, index) => whys[index] !== undefined)
    if (taken.length > 0)
      await pool.query(
        `update webhook_delivery set done_at = clock_timestamp(), outcome = 'taken', attempts = attempts + 1 where id = any($1::int8[])`,
        [taken.map(({ id }) => id)],
      )
    if (failed.length > 0)
      await pool.query(
        `update webhook_delivery d set attempts = d.attempts + 1, next_at = clock_timestamp() + make_interval(secs => k.seconds)
         from unnest($1::int8[], $2::float8[]) as k(id, seconds) where d.id = k.id`,
        [failed.map(({ id }) => id), failed.map(({ attempts }) => retrySeconds(attempts))],
      )
    counts.taken += taken.length
    counts.failed += failed.length
    failuresInRow = taken.length > 0 ? 0 : failuresInRow + 1
    if (failed.length > 0 && !stopping.signal.aborted && performance.now() - loggedMs > logEveryMs) {
      loggedMs = performance.now()
      log.warn(
        { host: url.host, why: whys.find((why) => why !== undefined) },
        'the webhook does not take events; trying again',
      )
    }
    return true
  }

  function retrySeconds(attempts: number): number {
    return (Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(attempts, 20)) * (0.75 + Math.random() / 2)) / 1000
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      let waitMs = pollMs
      try {
        if (await round())
          waitMs =
            failuresInRow === 0 ? 0 : Math.min(longestPauseMs, firstRetryMs * 2 ** Math.min(failuresInRow - 1, 20))
      } catch (error) {
        log.debug({ err: error }, 'the deliveries of the webhook cannot be read; trying again')
      }
      if (waitMs > 0) await pause(waitMs, stopping.signal)
    }
  }

  const running = run()
  return handleOf(async () => {
    stopping.abort()
    await running
  })
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done, { once: true })
    function done(): void {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
  })
}
