import { afterAll, beforeAll, expect, it } from 'vitest'
import { maxMetricsOfDevice, maxMetricsOfTenant } from './resolve-metrics.ts'
import { baseUs, eventOf, type StoreDatabase, storeDatabase, TestLog } from './store.fixture.ts'
import type { Store } from './store.ts'

let database: StoreDatabase
let store: Store
let streams = 0
const newLog = () => new TestLog(`test ${streams++}`)

beforeAll(async () => {
  database = await storeDatabase()
  store = await database.open()
})
afterAll(async () => {
  await store?.close()
  await database?.[Symbol.asyncDispose]()
})

const tenantOf = async (name: string) => {
  const [row] = await database.rows<{ id: number }>('insert into tenant (name) values ($1) returning id', [name])
  return row?.id as number
}
const named = (device: string, metric: string, more = {}) => eventOf(device, [{ metric, value: 1 }], more)
const codesOf = (stream: string) =>
  database.rows('select code, count(*)::int from dead_letter where stream = $1 group by 1', [stream])

it('makes unknown devices once, for the fleet credential that brought them', async () => {
  const [gateway] = await database.rows<{ id: number }>(
    `insert into device (tenant_id, external_id) select id, 'gw' from tenant where name = 'default' returning id`,
  )
  const [fleet] = await database.rows<{ id: string }>(
    'insert into credential (device_id, fleet, secret_hash) values ($1, true, $2) returning id',
    [gateway?.id, Buffer.from('x')],
  )
  const log = newLog()
  const children = ['b', 'a', 'c', 'a'].map((device, value) =>
    eventOf(device, [{ metric: 'm', value }], { gateway: 'gw' }),
  )
  await log.write(store, ...children, named('own', 'm'))
  expect(
    await database.rows(
      `select external_id, created_by from device where external_id in ('a', 'b', 'c', 'own') order by 1`,
    ),
  ).toEqual([
    ...['a', 'b', 'c'].map((external_id) => ({ external_id, created_by: fleet?.id })),
    { external_id: 'own', created_by: null },
  ])
})

it('keeps tenants apart: the same names are other devices and metrics', async () => {
  await tenantOf('acme')
  const log = newLog()
  const event = named('shared', 'shared')
  expect(await log.write(store, event, { ...event, tenant: 'acme' })).toMatchObject({ stored: 2 })
  expect(await database.rows(`select tenant, value from telemetry where device = 'shared' order by 1`)).toEqual([
    { tenant: 'acme', value: 1 },
    { tenant: 'default', value: 1 },
  ])
})

it('takes a name with another unit, or none, for another metric', async () => {
  const log = newLog()
  const units = [undefined, 'Cel', 'K', undefined, 'Cel']
  const events = units.map((unit, value) =>
    eventOf('units', [{ metric: 'temperature', value, ...(unit === undefined ? {} : { unit }) }]),
  )
  await log.write(store, ...events)
  expect(await database.rows(`select unit, value from telemetry_latest where device = 'units' order by 1`)).toEqual([
    { unit: 'Cel', value: 4 },
    { unit: 'K', value: 2 },
    { unit: null, value: 3 },
  ])
})

it(`lets a device bring ${maxMetricsOfDevice} names, and parks messages past that whole`, async () => {
  await tenantOf('narrow')
  const narrow = { tenant: 'narrow' }
  const log = newLog()
  const names = (from: number, count: number) =>
    eventOf(
      'greedy',
      Array.from({ length: count }, (_, index) => ({ metric: `m${from + index}`, value: 1 })),
      narrow,
    )
  expect(await log.write(store, names(0, 400), names(395, 100))).toMatchObject({ stored: 2, readings: 495 })
  expect(await log.write(store, names(490, 11), names(490, 10), names(499, 2), names(0, 3)), 'one batch').toMatchObject(
    {
      stored: 1,
      duplicate: 1,
      parked: 2,
      readings: 5,
    },
  )
  expect(await codesOf(log.stream)).toEqual([{ code: 'too_many_metrics', count: 2 }])
  expect(await log.write(store, named('modest', 'm600', narrow)), 'another device may').toMatchObject({ stored: 1 })
  expect(
    await log.write(store, eventOf('greedy', [{ metric: 'm600', value: 7 }], narrow)),
    'and then the greedy one may use it',
  ).toMatchObject({ stored: 1 })
})

it(`holds ${maxMetricsOfTenant} names a tenant`, async () => {
  const tenantId = await tenantOf('full')
  await database.sql.query(
    `insert into metric (tenant_id, name) select $1, 'old' || n from generate_series(1, ${maxMetricsOfTenant - 2}) n`,
    [tenantId],
  )
  const log = newLog()
  const full = (device: string, metric: string) => named(device, metric, { tenant: 'full' })
  const outcome = await log.write(
    store,
    full('a', 'new1'),
    eventOf(
      'a',
      [
        { metric: 'new2', value: 1 },
        { metric: 'new3', value: 1 },
      ],
      { tenant: 'full' },
    ),
    full('b', 'new4'),
    full('c', 'new5'),
    full('d', 'old1'),
    named('d', 'elsewhere'),
  )
  expect(outcome).toMatchObject({ stored: 4, parked: 2 })
  expect(await codesOf(log.stream)).toEqual([{ code: 'too_many_metrics', count: 2 }])
})

it('does not pass the cap when two stores add names at once', async () => {
  await tenantOf('race')
  await using other = await database.open()
  // Both know the device, or they would wait for each other there.
  await newLog().write(store, named('racer', 'm0', { tenant: 'race' }))
  const burst = (store: Store, from: number) => {
    const log = newLog()
    const events = Array.from({ length: 400 }, (_, index) => named('racer', `m${from + index}`, { tenant: 'race' }))
    return log.write(store, ...events)
  }
  const outcomes = await Promise.all([burst(store, 1), burst(other, 1000)])
  expect(outcomes.reduce((sum, { stored }) => sum + stored, 1)).toBe(maxMetricsOfDevice)
  expect(outcomes.reduce((sum, { parked }) => sum + parked, 0)).toBe(801 - maxMetricsOfDevice)
})

it('forgets numbers of a transaction that was rolled back', async () => {
  const log = newLog()
  await log.write(store, named('roll', 'known'))
  const behind = new TestLog(log.stream, 0, 0)
  await expect(behind.write(store, named('roll-new', 'roll-metric'))).rejects.toMatchObject({
    code: 'BRIDGE_OFFSET_FENCED',
  })
  await log.write(store, named('roll-new', 'roll-metric'))
  expect(await database.rows(`select device, metric from telemetry where device = 'roll-new'`)).toEqual([
    { device: 'roll-new', metric: 'roll-metric' },
  ])
  // Also where only a part of the transaction was: the second message is refused after its device was made.
  const poison = eventOf('roll-part', [{ metric: 'm', text: '\u0000' }])
  await log.write(store, poison, named('roll-part', 'part-metric'))
  await log.write(store, named('roll-part', 'part-metric', { ingestTimeUs: baseUs + 1 }))
  expect(await database.rows(`select metric from telemetry where device = 'roll-part'`)).toEqual([
    { metric: 'part-metric' },
  ])
})

it('finds a device again that was deleted by hand and comes back', async () => {
  const log = newLog()
  const at = (value: number) => eventOf('gone', [{ metric: 'a', value, eventTimeUs: baseUs + value }])
  await log.write(store, at(1))
  await expect(database.sql.query(`delete from device where external_id = 'gone'`), 'it has readings').rejects.toThrow(
    'latest_device_id_device_id_fk',
  )
  await database.sql.query(`delete from latest using device d where d.id = device_id and d.external_id = 'gone'`)
  await database.sql.query(`delete from device where external_id = 'gone'`)
  expect(await log.write(store, at(2))).toMatchObject({ stored: 1 })
  expect(await database.rows(`select value from telemetry where device = 'gone'`)).toEqual([{ value: 2 }])
})

it('writes for a device that was disabled meanwhile: its messages were taken before', async () => {
  const log = newLog()
  await log.write(store, named('off', 'a'))
  await database.sql.query(`update device set status = 'disabled' where external_id = 'off'`)
  expect(await log.write(store, named('off', 'b'))).toMatchObject({ stored: 1 })
})

it('makes one device where two stores meet it at once', async () => {
  await using other = await database.open()
  const burst = (store: Store) => {
    const log = newLog()
    return log.write(
      store,
      ...Array.from({ length: 200 }, (_, index) => named(`twin-${(index * 7) % 200}`, `t${index % 3}`)),
    )
  }
  const outcomes = await Promise.all([burst(store), burst(other)])
  expect(outcomes.map(({ stored }) => stored).reduce((a, b) => a + b)).toBe(200)
  expect(await database.rows(`select count(*)::int from device where external_id like 'twin-%'`)).toEqual([
    { count: 200 },
  ])
})
