import pg from 'pg'
import { expect, it } from 'vitest'
import { freshDatabase } from '#test/servers/fresh.ts'
import { takeInstanceLock } from './instance-lock.ts'
import { silentLog } from './log.ts'

const second = { code: 'BRIDGE_SECOND_INSTANCE' }

it('lets one process in, and the next one when that has closed', async () => {
  await using database = await freshDatabase()
  const first = await takeInstanceLock(database.url, 'direct', silentLog)
  await expect(takeInstanceLock(database.url, 'direct', silentLog)).rejects.toMatchObject(second)
  await first.close()
  await using _next = await takeInstanceLock(database.url, 'direct', silentLog)
})

it('is taken again when its connection was lost', async () => {
  await using database = await freshDatabase()
  await using _lock = await takeInstanceLock(database.url, 'direct', silentLog)
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  try {
    const holders = async () =>
      (
        await client.query<{ pid: number }>(
          `select pid from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`,
        )
      ).rows.map(({ pid }) => pid)
    const [before] = await holders()
    await client.query('select pg_terminate_backend($1)', [before])
    const deadline = performance.now() + 10_000
    for (let pids = await holders(); pids.length !== 1 || pids[0] === before; pids = await holders()) {
      expect(performance.now(), 'it was not taken again').toBeLessThan(deadline)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  } finally {
    await client.end()
  }
})
