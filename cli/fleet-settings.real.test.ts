import pg from 'pg'
import { expect, it } from 'vitest'
import { listCredentials } from '#gateway/admin/registry/credentials.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { addFleets } from './registry.ts'

it('firmware with topics of its own gets a fleet credential, and that of a plug speaks for itself alone', async () => {
  await using database = await migratedDatabase()
  const client = new pg.Client(database.url)
  await client.connect()
  try {
    const [plug] = await addFleets(client, { tenant: 'default', ids: ['plug-1'], aliases: ['tasmota_1'], isOwn: true })
    await addFleets(client, { tenant: 'default', ids: ['z2m'], isOwn: false })
    expect(plug).toEqual({ device: 'plug-1', token: expect.stringMatching(/^fb_/) })
    const live = async (device: string) =>
      (await listCredentials(client, { tenant: 'default', device, limit: 10 })).filter((row) => row.live)
    expect(await live('plug-1')).toMatchObject([{ role: 'fleet', pattern: 'plug-1' }])
    expect(await live('z2m')).toMatchObject([{ role: 'fleet', pattern: null }])
    await expect(addFleets(client, { tenant: 'default', ids: ['plug-1'], isOwn: true })).rejects.toThrow(/already/)
  } finally {
    await client.end()
  }
})
