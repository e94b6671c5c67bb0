import { readdirSync, readFileSync } from 'node:fs'
import { generateDrizzleJson, generateMigration } from 'drizzle-kit/api'
import { is } from 'drizzle-orm'
import { getTableConfig, getViewConfig, PgTable, PgView } from 'drizzle-orm/pg-core'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { migrate } from '#platform/migrate.ts'
import { freshDatabase } from '#test/servers/fresh.ts'
import * as schema from './tables.ts'

let database: Awaited<ReturnType<typeof freshDatabase>>
let client: pg.Client

beforeAll(async () => {
  database = await freshDatabase()
  await migrate(database.url, silentLog)
  client = new pg.Client({ connectionString: database.url })
  await client.connect()
})
afterAll(async () => {
  await client?.end()
  await database?.[Symbol.asyncDispose]()
})

const rows = async (text: string, values: unknown[] = []) => (await client.query(text, values)).rows
const exported = Object.values(schema)
const tables = exported.filter((member) => is(member, PgTable)).map((table) => getTableConfig(table))
const views = exported.filter((member) => is(member, PgView)).map((view) => getViewConfig(view))

const columnsOf = (relation: string) =>
  rows(
    `select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as "notNull",
      a.attidentity <> '' or d.adbin is not null as "hasDefault"
     from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum`,
    [relation],
  )

describe('the catalog', () => {
  it('has the tables and views of tables.ts, and no other', async () => {
    const relations = await rows(
      `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')`,
    )
    expect(relations.map(({ name }) => name).sort()).toEqual([...tables, ...views].map(({ name }) => name).sort())
  })

  it.each(tables.map((table) => [table.name, table] as const))(
    'has the columns and keys of %s',
    async (name, table) => {
      expect(await columnsOf(name)).toEqual(
        table.columns.map((column) => ({
          name: column.name,
          type: column.getSQLType(),
          notNull: column.notNull,
          hasDefault: column.hasDefault || column.generatedIdentity !== undefined,
        })),
      )
      const constraints = await rows(
        `select contype::text as type, conname as name from pg_constraint where conrelid = $1::regclass and contype in ('p', 'u', 'f', 'c')`,
        [name],
      )
      const named = (type: string) =>
        constraints
          .filter((constraint) => constraint.type === type)
          .map((constraint) => constraint.name)
          .sort()
      expect(named('f')).toEqual(table.foreignKeys.map((key) => key.getName()).sort())
      expect(named('c')).toEqual(table.checks.map((check) => check.name).sort())
      expect(named('u')).toEqual(
        [
          ...table.uniqueConstraints.map((unique) => unique.getName()),
          ...table.columns.flatMap((column) => (column.isUnique ? [column.uniqueName] : [])),
        ].sort(),
      )
      const [key] = await rows(
        `select array_agg(a.attname::text order by k.n) as columns from pg_constraint c
       cross join lateral unnest(c.conkey) with ordinality as k(attnum, n)
       join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.attnum
       where c.conrelid = $1::regclass and c.contype = 'p'`,
        [name],
      )
      const single = table.columns.filter((column) => column.primary).map((column) => column.name)
      expect(key.columns).toEqual(table.primaryKeys[0]?.columns.map((column) => column.name) ?? single)
      const indexes = await rows(
        `select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid
       where i.indrelid = $1::regclass and not exists (select from pg_constraint o where o.conindid = i.indexrelid)`,
        [name],
      )
      expect(indexes.map((index) => index.name).sort()).toEqual(table.indexes.map((index) => index.config.name).sort())
    },
  )

  it.each(views.map((view) => [view.name, view] as const))('has the columns of the view %s', async (name, view) => {
    const columns = await columnsOf(name)
    expect(columns.map((column) => [column.name, column.type])).toEqual(
      Object.values(view.selectedFields).map((column) => {
        const { name: columnName, getSQLType } = column as never as { name: string; getSQLType(): string }
        return [columnName, getSQLType.call(column)]
      }),
    )
  })

  it('says what every table and view is for', async () => {
    const silent = await rows(
      `select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
       and obj_description(oid, 'pg_class') is null`,
    )
    expect(silent).toEqual([])
  })

  it('partitions readings by time, and leaves room on pages that are updated in place', async () => {
    expect(await rows(`select pg_get_partkeydef('reading'::regclass) as key`)).toEqual([{ key: 'RANGE (event_time)' }])
    expect(await rows(`select pg_get_partkeydef('recent_message'::regclass) as key`)).toEqual([
      { key: 'RANGE (stored_day)' },
    ])
    for (const table of ['rollup_10m', 'rollup_1h'])
      expect(await rows(`select pg_get_partkeydef($1::regclass) as key`, [table])).toEqual([{ key: 'RANGE (bucket)' }])
    expect(await rows(`select reloptions from pg_class where relname = 'latest'`)).toEqual([
      { reloptions: ['fillfactor=70'] },
    ])
  })
})

it('needs no migration that is not written yet', async () => {
  const folder = new URL('./migrations/meta/', import.meta.url)
  const last = readdirSync(folder)
    .filter((name) => name.endsWith('_snapshot.json'))
    .sort()
    .at(-1) as string
  const snapshot = JSON.parse(readFileSync(new URL(last, folder), 'utf8'))
  const wanted = generateDrizzleJson(schema, snapshot.id)
  expect(await generateMigration(snapshot, wanted)).toEqual([])
})

describe('the registry', () => {
  it('tells listeners of credentials and of a device that is disabled, and of nothing else', async () => {
    const listener = new pg.Client({ connectionString: database.url })
    await listener.connect()
    const told: string[] = []
    listener.on('notification', ({ channel }) => told.push(channel))
    await listener.query('listen fleetbridge_registry')
    const count = async (statement: string, values: unknown[] = []) => {
      told.length = 0
      await client.query(statement, values)
      // A round trip: what was sent before has arrived.
      await listener.query('select 1')
      return told.length
    }
    try {
      const device = `insert into device (tenant_id, external_id) values (1, 'pump-1')`
      expect(await count(device), 'a device alone can do nothing').toBe(0)
      expect(await count(`insert into credential (device_id, secret_hash) select id, 'x' from device`)).toBe(1)
      expect(await count(`update credential set last_used_at = now()`)).toBe(0)
      expect(await count(`update credential set revoked_at = now()`)).toBe(1)
      expect(await count(`update device set site = 'north'`)).toBe(0)
      expect(await count(`update device set status = 'disabled'`)).toBe(1)
      expect(await count(`delete from credential`)).toBe(1)
    } finally {
      await listener.end()
    }
  })

  it('moves updated_at on when a row changes, but not for a mark of use', async () => {
    const [device] = await rows(
      `insert into device (tenant_id, external_id) values (1, 'pump-2') returning id, updated_at::text as at`,
    )
    const [credential] = await rows(
      `insert into credential (device_id, secret_hash) values ($1, 'y') returning id, updated_at::text as at`,
      [device.id],
    )
    const touched = async (table: string, change: string, row: { id: unknown; at: string }) => {
      const [after] = await rows(`update ${table} set ${change} where id = $1 returning updated_at > $2 as moved`, [
        row.id,
        row.at,
      ])
      return after.moved
    }
    expect(await touched('device', `type = 'pump'`, device)).toBe(true)
    expect(await touched('credential', 'last_used_at = now()', credential)).toBe(false)
    expect(await touched('credential', 'expires_at = now()', credential)).toBe(true)
  })

  it('refuses what cannot be', async () => {
    await expect(client.query(`insert into tenant (name) values ('No/Tenant')`)).rejects.toThrow('tenant_name_check')
    await expect(client.query(`update device set status = 'asleep'`)).rejects.toThrow('device_status_check')
    await client.query(`insert into metric (tenant_id, name) values (1, 'm')`)
    await expect(client.query(`insert into metric (tenant_id, name) values (1, 'm')`)).rejects.toThrow('unique')
  })
})
