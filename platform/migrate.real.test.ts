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

/** As a later version leaves it. @param since the oldest program that it lets run, undefined: it does not say */
async function migrateFurther(url: string, tag: string, when: number, since?: string): Promise<void> {
  await query(url, `insert into drizzle.__drizzle_migrations (hash, created_at) values ('${tag}', ${when})`)
  if (since !== undefined)
    await query(url, `insert into drizzle.fleetbridge_compatibility values (${when}, '${tag}', '${since}')`)
}

const far = 99_999_999_999_999

it.each([
  ['does not say that older programs run on it', undefined, /5138-11-16.* does not say/],
  ['wants a program that knows a later migration', '0900_expand', /0901_contract needs one that knows 0900_expand/],
])('refuses a database whose newer migration %s, and leaves it as it is', async (_, since, message) => {
  await using database = await freshDatabase()
  await migrate(database.url, silentLog)
  await migrateFurther(database.url, '0900_expand', far - 1, '0000_first')
  await migrateFurther(database.url, '0901_contract', far, since)
  const countMigrations = () => query(database.url, 'select count(*)::int from drizzle.__drizzle_migrations')
  const before = await countMigrations()
  const newer = { code: 'BRIDGE_SCHEMA_NEWER', message: expect.stringMatching(message) }
  await expect(migrate(database.url, silentLog)).rejects.toMatchObject(newer)
  await expect(checkSchema(database.url)).rejects.toMatchObject(newer)
  await expect(checkSchema(database.url)).rejects.toThrow('start the newer version')
  expect(await countMigrations()).toEqual(before)
})

it('runs on a database that a newer version has expanded, and says so', async () => {
  await using database = await freshDatabase()
  await migrate(database.url, silentLog)
  await migrateFurther(database.url, '0900_expand', far, '0000_first')
  const said: unknown[] = []
  const log = { ...silentLog, warn: (...parts: unknown[]) => void said.push(parts) } as typeof silentLog
  await checkSchema(database.url, log)
  await migrate(database.url, log)
  const once = [{ migrations: ['0900_expand'] }, expect.stringContaining('newer version, which lets this one run')]
  expect(said).toEqual([once, once])
})

it('refuses a database of another line, whose newer migrations came without one of ours', async () => {
  await using database = await freshDatabase()
  await migrate(database.url, silentLog)
  await query(
    database.url,
    `delete from drizzle.__drizzle_migrations where created_at = (select max(created_at) from drizzle.__drizzle_migrations)`,
  )
  await migrateFurther(database.url, '0900_expand', far, '0000_first')
  await expect(checkSchema(database.url)).rejects.toMatchObject({
    code: 'BRIDGE_SCHEMA_NEWER',
    message: expect.stringContaining('came without'),
  })
})
