import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { checkTopics } from '#platform/kafka-topics-admin.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { checkSchema } from '#platform/migrate.ts'
import { startConsumer } from './consume/consumer.ts'
import { startPresenceRounds, webhookKinds } from './presence/rounds.ts'
import { type Store, startStore } from './store/store.ts'

export interface Worker extends Handle {
  readonly store: Store
  /** What /readyz says: it belongs to the group, reads all its partitions, and rows have not failed for 10 s. */
  ready(): { ok: boolean; detail: Record<string, unknown> }
}

const failingMs = 10_000

/**
 * Records to rows. Starts also while Kafka is away; Postgres has to be there.
 * @throws BridgeError BRIDGE_CONFIG_INVALID without Kafka or database, BRIDGE_SCHEMA_MISSING or _NEWER, BRIDGE_TOPICS_MISSING
 */
export async function startWorker(config: Config, { log, metrics }: { log: Log; metrics: Metrics }): Promise<Worker> {
  const { kafka, database, retention } = config
  if (kafka.brokers === undefined || database.url === undefined)
    throw new BridgeError(
      'BRIDGE_CONFIG_INVALID',
      'a worker needs KAFKA_BROKERS and DATABASE_URL; without them use: npx fleetbridge up',
    )
  await checkSchema(database.url)
  await checkTopics(kafka, log).catch((error: unknown) => {
    if (!(error instanceof BridgeError) || error.code !== 'BRIDGE_EVENT_LOG_UNAVAILABLE') throw error
    log.warn({ err: error }, 'Kafka does not answer yet: reading begins when it does')
  })
  await using opened = new AsyncDisposableStack()
  const { url: databaseUrl, poolSize } = database
  const store = opened.use(
    await startStore({
      databaseUrl,
      poolSize,
      retention: retention.reading,
      recentMessages: retention.recentMessage,
      deadLetters: retention.deadLetter,
      isKeeper: true,
      webhookKinds: webhookKinds(config.webhook),
      rollups: { tenMinutes: retention.rollup10m, hours: retention.rollup1h },
      log,
      metrics,
    }),
  )
  opened.use(startPresenceRounds({ config, databaseUrl, log, metrics }))
  const consumer = opened.use(startConsumer({ kafka, store, log, metrics }))
  const parts = opened.move()
  let closing = false
  return {
    store,
    ready() {
      const state = consumer.state()
      const ok = state.joined && state.stopped.length === 0 && state.failingMs < failingMs && !closing
      return { ok, detail: { ...state, failingMs: Math.round(state.failingMs), closing } }
    },
    ...handleOf(() => {
      closing = true
      return parts.disposeAsync()
    }),
  }
}
