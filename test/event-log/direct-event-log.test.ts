import pg from 'pg'
import { afterAll, beforeAll } from 'vitest'
import { startDirectEventLog } from '#gateway/event-log/direct-event-log.ts'
import { type EventLogUnderTest, testEventLog } from '#gateway/event-log/event-log.contract.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { migrate } from '#platform/migrate.ts'
import { type PostgresServer, startPostgres } from '#test/servers/postgres.ts'
import { createDirectWriter } from '#worker/store/direct-writer.ts'
import { startStore } from '#worker/store/store.ts'

// A server of our own: it is frozen.
let server: PostgresServer
let databases = 0

beforeAll(async () => {
  server = await startPostgres()
})

afterAll(() => server.close())

testEventLog('direct, into Postgres', async (): Promise<EventLogUnderTest> => {
  await using opened = new AsyncDisposableStack()
  const name = `direct_${databases++}`
  const root = new pg.Client({ connectionString: server.url })
  await root.connect()
  await root.query(`create database ${name}`)
  await root.end()
  const url = new URL(server.url)
  url.pathname = `/${name}`
  await migrate(url.href, silentLog)
  const sql = new pg.Client({ connectionString: url.href })
  await sql.connect()
  opened.defer(() => sql.end())
  const metrics = createMetrics('test')
  const storeOptions = { databaseUrl: url.href, poolSize: 3, retention: '90d', log: silentLog, metrics }
  const store = opened.use(await startStore(storeOptions))
  const write = await createDirectWriter(store)
  opened.defer(() => server.resume())
  const parts = opened.move()
  return {
    open: (options) => startDirectEventLog(write, { log: silentLog, metrics: createMetrics('test'), ...options }),
    async numbers() {
      const { rows } = await sql.query('select device, value from telemetry order by time')
      const byDevice = Map.groupBy(rows as { device: string; value: number }[], ({ device }) => device)
      return new Map([...byDevice].map(([device, own]) => [device, own.map(({ value }) => value)]))
    },
    async deadLetters() {
      return (await sql.query('select id, code, payload from dead_letter')).rows.map((row) => ({ ...row }))
    },
    freeze: () => server.pause(),
    restore: () => server.resume(),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
})
