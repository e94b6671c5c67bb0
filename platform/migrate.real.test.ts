import pg from 'pg'
import { expect, it } from 'vitest'
import { freshDatabase } from '#test/servers/fresh.ts'
import { silentLog } from './log.ts'
import { checkSchema, migrate } from './migrate.ts'

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

it('brings an empty database up to date, and does nothing the second time', async () => {
  await using database = await freshDatabase()
  await expect(checkSchema(database.url)).rejects.toMatchObject({
    code: 'BRIDGE_SCHEMA_MISSING',
    message: expect.stringContaining('fleetbridge init'),
  })
  await migrate(database.url, silentLog)
  await checkSchema(database.url)
  await migrate(database.url, silentLog)
  expect(await query(database.url, 'select name from tenant')).toEqual([{ name: 'default' }])
})

it('lets two that start at once wait for each other', async () => {
  await using database = await freshDatabase()
  await Promise.all(Array.from({ length: 4 }, () => migrate(database.url, silentLog)))
  await checkSchema(database.url)
  expect(await query(database.url, 'select count(*)::int from tenant')).toEqual([{ count: 1 }])
})

it('refuses a database that a newer version has migrated, and leaves it as it is', async () => {
  await using database = await freshDatabase()
  await migrate(database.url, silentLog)
  const countMigrations = () => query(database.url, 'select count(*)::int from drizzle.__drizzle_migrations')
  const [{ count }] = (await countMigrations()) as [{ count: number }]
  await query(
    database.url,
    `insert into drizzle.__drizzle_migrations (hash, created_at) values ('newer', 99999999999999)`,
  )
  const newer = { code: 'BRIDGE_SCHEMA_NEWER', message: expect.stringContaining('start the newer version') }
  await expect(migrate(database.url, silentLog)).rejects.toMatchObject(newer)
  await expect(checkSchema(database.url)).rejects.toMatchObject(newer)
  expect(await countMigrations()).toEqual([{ count: count + 1 }])
})
