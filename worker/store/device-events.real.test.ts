import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import type { DeviceEvent, DeviceEventRecord } from '#schema/device-event.ts'
import { randomOf, type StoreDatabase, storeDatabase, TestLog } from './store.fixture.ts'
import type { Store } from './store.ts'

const startUs = (Date.now() - 3_600_000) * 1000
const secondUs = 1_000_000

function sessionEvent(
  kind: 'connected' | 'disconnected' | 'lost',
  device: string,
  epoch: number,
  more: { timeUs?: number; gateway?: string; incarnation?: number; client?: string } = {},
): DeviceEvent {
  const { timeUs = epoch, gateway = 'gw-a', incarnation = 1, client = device } = more
  const session = { client, epoch, gateway, incarnation, connectedUs: epoch }
  return { v: 1, id: randomUUID(), tenant: 'default', device, kind, timeUs, session }
}

async function write(store: Store, log: TestLog, records: readonly DeviceEventRecord[]): Promise<void> {
  const { stream, partition, nextOffset: fromOffset } = log
  const nextOffset = fromOffset + records.length
  const numbered = records.map((deviceEvent, index) => ({ offset: fromOffset + index, deviceEvent }))
  await store.write([{ stream, partition, fromOffset, nextOffset, records: numbered }])
  log.nextOffset = nextOffset
}

async function withDevices(names: readonly string[]): Promise<StoreDatabase> {
  const database = await storeDatabase()
  for (const name of names)
    await database.rows(
      `insert into device (tenant_id, external_id) select id, $1 from tenant where name = 'default'`,
      [name],
    )
  return database
}

const status = (database: StoreDatabase) =>
  database.rows<{ device: string; online: boolean; since: Date | null; gateway: string | null }>(
    'select device, online, since, gateway from device_status order by device',
  )

it('says who is online whatever order the records come in, however often, and whoever is killed between', async () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
  console.info(`SEED=${seed}`)
  const random = randomOf(seed)
  const below = (count: number) => Math.floor(random() * count)
  const devices = Array.from({ length: 8 }, (_, number) => `d-${number}`)
  await using database = await withDevices(devices)
  await using store = await database.open()

  // What happened: each device connects and ends, here and there, with up to two clients, and a gateway that says all anew.
  const records: DeviceEvent[] = []
  const expected = new Map<string, { online: boolean; gateway: string | null }>()
  for (const device of devices) {
    const last = new Map<string, { epoch: number; ended: boolean; gateway: string }>()
    let epoch = startUs
    for (let step = 0; step < 3 + below(8); step++) {
      epoch += secondUs
      const client = `${device}-${below(2)}`
      const gateway = `gw-${below(3)}`
      const at = { gateway, client, incarnation: 1 + below(2) }
      const connected = sessionEvent('connected', device, epoch, at)
      records.push(connected)
      if (random() < 0.3) {
        at.incarnation++ // said anew, under the event's own id
        records.push(sessionAnew(connected, at.incarnation))
      }
      const ended = random() < 0.6
      if (ended)
        records.push(
          sessionEvent(random() < 0.5 ? 'lost' : 'disconnected', device, epoch, { ...at, timeUs: epoch + 400_000 }),
        )
      last.set(client, { epoch, ended, gateway })
    }
    const open = [...last.values()].filter(({ ended }) => !ended).sort((a, b) => b.epoch - a.epoch)
    expected.set(device, { online: open.length > 0, gateway: open[0]?.gateway ?? null })
  }
  const copies = [...records, ...records.filter(() => random() < 0.4)]
  for (let at = copies.length - 1; at > 0; at--) {
    const other = below(at + 1)
    ;[copies[at], copies[other]] = [copies[other] as DeviceEvent, copies[at] as DeviceEvent]
  }

  const logs = [new TestLog('events', 0), new TestLog('events', 1), new TestLog('events', 2)]
  for (let at = 0; at < copies.length; ) {
    const some = copies.slice(at, at + 1 + below(12))
    const log = logs[below(3)] as TestLog
    if (random() < 0.2) {
      // A worker that dies within its transaction, and another one that reads the same records again.
      await database.rows(`alter table device_event rename to hidden`)
      await expect(write(store, log, some)).rejects.toThrow()
      await database.rows(`alter table hidden rename to device_event`)
    }
    await write(store, log, some)
    at += some.length
  }

  const found = new Map((await status(database)).map(({ device, online, gateway }) => [device, { online, gateway }]))
  expect(found).toEqual(expected)
  const [counted] = await database.rows<{ count: number }>('select count(*)::int as count from device_event')
  expect(counted?.count, 'each event is one row').toBe(records.length - records.filter(isAnew).length)
})

const anew = new WeakSet<DeviceEvent>()
const isAnew = (event: DeviceEvent) => anew.has(event)
function sessionAnew(event: DeviceEvent, incarnation: number): DeviceEvent {
  const said = { ...event, session: { ...(event.session as NonNullable<DeviceEvent['session']>), incarnation } }
  anew.add(said)
  return said
}

it('does not take a device that was taken over for offline, and leaves out those that it does not know', async () => {
  await using database = await withDevices(['pump-1'])
  await using store = await database.open()
  const log = new TestLog('events')
  await write(store, log, [sessionEvent('connected', 'pump-1', startUs, { gateway: 'gw-a' })])
  await write(store, log, [
    sessionEvent('connected', 'pump-1', startUs + secondUs, { gateway: 'gw-b' }),
    sessionEvent('disconnected', 'pump-1', startUs, { gateway: 'gw-a', timeUs: startUs + 2 * secondUs }),
    sessionEvent('connected', 'nobody', startUs),
  ])
  expect(await status(database)).toEqual([
    { device: 'pump-1', online: true, since: new Date((startUs + secondUs) / 1000), gateway: 'gw-b' },
  ])
  const end = startUs + 3 * secondUs
  await write(store, log, [sessionEvent('lost', 'pump-1', startUs + secondUs, { gateway: 'gw-b', timeUs: end })])
  await write(store, log, [sessionEvent('connected', 'pump-1', startUs + secondUs, { gateway: 'gw-b' })])
  expect(await status(database), 'a connection that comes after its end').toEqual([
    { device: 'pump-1', online: false, since: new Date(end / 1000), gateway: null },
  ])
})

it('makes events rows without a log, and tells the webhook of new ones of its kinds', async () => {
  await using database = await withDevices(['pump-1'])
  await using store = await database.open({ webhookKinds: ['lost'] })
  const events = [
    sessionEvent('connected', 'pump-1', startUs),
    { ...sessionEvent('lost', 'pump-1', startUs, { timeUs: startUs + secondUs }), details: { reason: 'keep_alive' } },
    { v: 1, kind: 'gateway', gateway: 'gw-a', incarnation: 1, timeUs: startUs },
  ] as const satisfies DeviceEventRecord[]
  await store.writeDeviceEvents(events)
  await store.writeDeviceEvents(events)
  const told = await database.rows('select event_id, subject, body from webhook_delivery')
  expect(told).toEqual([
    {
      event_id: events[1].id,
      subject: 'default/pump-1',
      body: {
        id: events[1].id,
        kind: 'lost',
        tenant: 'default',
        device: 'pump-1',
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
        details: { client: 'pump-1', gateway: 'gw-a', reason: 'keep_alive' },
      },
    },
  ])
})
