import pg from 'pg'
import { expect, it } from 'vitest'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { addCredential, addDevices, addFleetCredential, hashOf, keepDevice, listDevices } from './registry.ts'

async function migrated(): Promise<{ client: pg.Client } & AsyncDisposable> {
  await using opened = new AsyncDisposableStack()
  const { url } = opened.use(await migratedDatabase())
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  opened.defer(() => client.end())
  const all = opened.move()
  return { client, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

it('adds 500 devices at once, each with its own token, and keeps only hashes', async () => {
  await using database = await migrated()
  const { client } = database
  const ids = Array.from({ length: 500 }, (_, index) => `load-${index + 1}`)
  const made = await addDevices(client, 'default', ids)
  expect(made.map(({ device }) => device)).toEqual(ids)
  const { rows } = await client.query<{ device: string; hash: Buffer }>(
    'SELECT external_id AS device, secret_hash AS hash FROM credential JOIN device ON device.id = device_id',
  )
  const stored = new Map(rows.map(({ device, hash }) => [device, hash.toString('hex')]))
  for (const { device, token } of made) expect(stored.get(device)).toBe(hashOf(token).toString('hex'))
})

it('adds all or none: a device that is there is named', async () => {
  await using database = await migrated()
  const { client } = database
  await addDevices(client, 'default', ['pump-1'])
  await expect(addDevices(client, 'default', ['pump-0', 'pump-1'])).rejects.toThrow(
    /"pump-1" is there already; nothing was added/,
  )
  expect((await listDevices(client, 'default', 10)).map(({ device }) => device)).toEqual(['pump-1'])
})

it('gives new devices their type', async () => {
  await using database = await migrated()
  const { client } = database
  await addDevices(client, 'default', ['pump-1', 'pump-2'], { type: 'pump' })
  const { rows } = await client.query('SELECT external_id AS device, type FROM device ORDER BY 1')
  expect(rows).toEqual([
    { device: 'pump-1', type: 'pump' },
    { device: 'pump-2', type: 'pump' },
  ])
})

it('keeps tenants apart', async () => {
  await using database = await migrated()
  const { client } = database
  await addDevices(client, 'default', ['esp32'])
  await addDevices(client, 'acme', ['esp32'])
  expect(await listDevices(client, 'acme', 10)).toMatchObject([{ device: 'esp32', credentials: 1 }])
  await expect(addDevices(client, 'Not A Tenant', ['esp32'])).rejects.toThrow(/tenant/)
})

it('adds a further token, and fleet credentials with their pattern', async () => {
  await using database = await migrated()
  const { client } = database
  await addDevices(client, 'default', ['pump-1'])
  await addCredential(client, 'default', 'pump-1')
  await expect(addCredential(client, 'default', 'pump-2')).rejects.toThrow(/devices add pump-2/)
  await addFleetCredential(client, { tenant: 'default', name: 'gw-1', pattern: 'site1-*' })
  expect(await listDevices(client, 'default', 10)).toMatchObject([
    { device: 'gw-1', fleet: true, credentials: 1 },
    { device: 'pump-1', fleet: false, credentials: 2 },
  ])
  const { rows } = await client.query('SELECT pattern, name FROM credential WHERE fleet')
  expect(rows).toEqual([{ pattern: 'site1-*', name: 'gw-1' }])
})

it('keeps a device with its token, until that is revoked', async () => {
  await using database = await migrated()
  const { client } = database
  expect(await keepDevice(client, 'demo', 'fb_kept')).toBe(true)
  expect(await keepDevice(client, 'demo', 'fb_kept')).toBe(true)
  expect(await listDevices(client, 'default', 10)).toMatchObject([{ device: 'demo', credentials: 1 }])
  await client.query('UPDATE credential SET revoked_at = now()')
  expect(await keepDevice(client, 'demo', 'fb_kept')).toBe(false)
})

it('stores SQL in names as names', async () => {
  await using database = await migrated()
  const { client } = database
  const id = `x'); DROP TABLE device; --`
  await addDevices(client, 'default', [id])
  expect(await listDevices(client, 'default', 10)).toMatchObject([{ device: id }])
})
