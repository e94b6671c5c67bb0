import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { loadConfig } from '#platform/config.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import type { DeviceEvent } from '#schema/device-event.ts'
import {
  deadLetterOf,
  eventOf,
  eventually,
  type StoreDatabase,
  storeDatabase,
  TestLog,
} from '../store/store.fixture.ts'
import { startPresenceRounds } from './rounds.ts'

const nowUs = () => Date.now() * 1000

async function withDevices(...names: string[]): Promise<StoreDatabase> {
  const database = await storeDatabase()
  for (const name of names)
    await database.rows(
      `insert into device (tenant_id, external_id) select id, $1 from tenant where name = 'default'`,
      [name],
    )
  return database
}

function rounds(database: StoreDatabase, environment: Record<string, string> = {}, metrics = createMetrics('test')) {
  const config = loadConfig({ BRIDGE_PRESENCE_GATEWAY_EXPIRY_SECONDS: '3', ...environment })
  return startPresenceRounds({ config, databaseUrl: database.url, log: silentLog, metrics, everyMs: 50, graceMs: 0 })
}

function connected(device: string, gateway: string, epoch: number, client = device): DeviceEvent {
  const session = { client, epoch, gateway, incarnation: 1, connectedUs: nowUs() }
  return { v: 1, id: randomUUID(), tenant: 'default', device, kind: 'connected', timeUs: nowUs(), session }
}

const status = (database: StoreDatabase) =>
  database.rows<{ device: string; online: boolean }>('select device, online from device_status order by device')
const events = (database: StoreDatabase, kinds: readonly string[]) =>
  database.rows<{ device: string; kind: string }>(
    `select d.external_id as device, e.kind from device_event e join device d on d.id = e.device_id
     where e.kind = any($1::text[]) order by e.time, d.id`,
    [kinds],
  )

it('makes the sessions of a gateway that is gone lost, also those that are read later, and no others', async () => {
  await using database = await withDevices('elsewhere', 'gone', 'late', 'twice')
  await using store = await database.open()
  const epoch = nowUs()
  const beat = (gateway: string) => ({ v: 1, kind: 'gateway', gateway, incarnation: 1, timeUs: nowUs() }) as const
  await store.writeDeviceEvents([
    beat('gw-a'),
    beat('gw-b'),
    connected('gone', 'gw-a', epoch),
    connected('elsewhere', 'gw-a', epoch),
    connected('twice', 'gw-a', epoch, 'one'),
    connected('twice', 'gw-b', epoch, 'other'),
  ])
  await store.writeDeviceEvents([connected('elsewhere', 'gw-b', epoch + 1)])
  await using _rounds = rounds(database)
  const beating = setInterval(() => void store.writeDeviceEvents([beat('gw-b')]).catch(() => {}), 500)
  try {
    await new Promise((resolve) => setTimeout(resolve, 1500))
    expect(
      (await status(database)).filter(({ online }) => online),
      'not before the expiry',
    ).toHaveLength(3)
    const wanted = (late: boolean) => [
      { device: 'elsewhere', online: true },
      { device: 'gone', online: false },
      { device: 'late', online: late },
      { device: 'twice', online: true },
    ]
    await eventually(() => status(database), wanted(false))
    await store.writeDeviceEvents([connected('late', 'gw-a', epoch)])
    await eventually(
      () => events(database, ['lost']),
      [
        { device: 'gone', kind: 'lost' },
        { device: 'late', kind: 'lost' },
      ],
    )
    await eventually(() => status(database), wanted(false))
  } finally {
    clearInterval(beating)
  }
})

it('learns how long a device may be still, and says when it is silent and when it is back', async () => {
  await using database = await withDevices('by-type', 'said', 'usual', 'whenever')
  await using store = await database.open()
  const log = new TestLog()
  await database.rows(`update device set attributes = '{"silentAfterSeconds": 60}' where external_id = 'said'`)
  await database.rows(`update device set attributes = '{"silentAfterSeconds": 0}' where external_id = 'whenever'`)
  await database.rows(`update device set type = 'slow' where external_id = 'by-type'`)
  await database.rows(`insert into device_type (tenant_id, name, silent_after_seconds) values (1, 'slow', 7200)`)
  // An hour of a message in ten seconds, which ended twenty minutes ago.
  const endUs = nowUs() - 1_200_000_000
  const say = (device: string, atUs: number) =>
    eventOf(device, [{ metric: 'temperature', value: 1, eventTimeUs: atUs }], { ingestTimeUs: atUs })
  for (const device of ['by-type', 'said', 'usual', 'whenever'])
    await log.write(store, ...Array.from({ length: 100 }, (_, number) => say(device, endUs - number * 10_000_000)))

  const metrics = createMetrics('test')
  await using _rounds = rounds(database, { BRIDGE_PRESENCE_METRIC_TENANTS: 'default' }, metrics)
  await eventually(
    () => events(database, ['silent', 'back']),
    [
      { device: 'said', kind: 'silent' },
      { device: 'usual', kind: 'silent' },
    ],
  )
  expect(
    await database.rows(
      `select d.external_id as device, w.silent_after_seconds as seconds, w.origin, w.silent_since is not null as silent
       from device_watch w join device d on d.id = w.device_id order by device`,
    ),
  ).toEqual([
    { device: 'by-type', seconds: 7200, origin: 'type', silent: false },
    { device: 'said', seconds: 60, origin: 'device', silent: true },
    { device: 'usual', seconds: 300, origin: 'learnt', silent: true },
    { device: 'whenever', seconds: null, origin: 'device', silent: false },
  ])
  await database.rows(`update device_watch set look_at = now()`)
  await log.write(store, say('usual', nowUs()))
  await eventually(() => events(database, ['back']), [{ device: 'usual', kind: 'back' }])
  expect(await database.rows(`select device from device_status where silent_since is not null`)).toEqual([
    { device: 'said' },
  ])
  expect(await metrics.registry.metrics()).toMatch(/fleetbridge_tenant_silent_devices\{tenant="default"\} \d/)
})

it('does not call anybody silent while the log has not been read', async () => {
  await using database = await withDevices('pump-1')
  await using store = await database.open()
  const atUs = nowUs() - 1_200_000_000
  await new TestLog().write(
    store,
    eventOf('pump-1', [{ metric: 'n', value: 1, eventTimeUs: atUs }], { ingestTimeUs: atUs }),
  )
  await database.rows(`update device set attributes = '{"silentAfterSeconds": 60}'`)
  await using _rounds = rounds(database, { KAFKA_BROKERS: '127.0.0.1:9' })
  await eventually(() => database.rows('select silent_after_seconds as seconds from device_watch'), [{ seconds: 60 }])
  await new Promise((resolve) => setTimeout(resolve, 300))
  expect(await events(database, ['silent'])).toEqual([])
})

it('tells the webhook of a flood of dead letters once', async () => {
  await using database = await withDevices()
  await using store = await database.open()
  const letters = Array.from({ length: 5 }, () => deadLetterOf({ ingestTimeUs: nowUs() }))
  await new TestLog().write(store, ...letters)
  await using _rounds = rounds(database, {
    BRIDGE_WEBHOOK_URL: 'http://127.0.0.1:9/',
    BRIDGE_WEBHOOK_SECRET: 'a-secret-of-the-test-alone',
    BRIDGE_WEBHOOK_DEAD_LETTERS: '5',
  })
  const told = () =>
    database.rows(`select subject, body ->> 'kind' as kind, body -> 'details' as details from webhook_delivery`)
  const wanted = [{ subject: 'default', kind: 'dead_letters', details: { count: 5, seconds: 300 } }]
  await eventually(told, wanted)
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect(await told()).toEqual(wanted)
})

it('deletes what is past its time, and of many clients of a device keeps the last', async () => {
  await using database = await withDevices('pump-1')
  await database.rows(
    `insert into session (device_id, client, epoch, incarnation, gateway, connected_at, ended_at, ending)
     select d.id, 'c' || n, n, 1, 'gw', now() - make_interval(days => 10 - n), now() - make_interval(days => 9 - n), 'lost'
     from device d, generate_series(1, 6) n`,
  )
  await database.rows(
    `insert into device_event (device_id, time, id, kind) select d.id, now() - make_interval(days => n), gen_random_uuid(), 'lost'
     from device d, generate_series(1, 40) n`,
  )
  await using _rounds = rounds(database)
  await eventually(() => database.rows('select client from session'), [{ client: 'c6' }])
  await eventually(() => database.rows('select count(*)::int as count from device_event'), [{ count: 29 }])
})
