import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { changeStatus } from '#gateway/admin/registry/devices.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { withDatabase } from '../database.ts'
import { byUser } from '../registry.ts'
import { demoLogin } from './demo-device.ts'

it('keeps device and token, makes a new token when that was revoked, and another device when it was removed', async () => {
  await using database = await migratedDatabase()
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetbridge-demo-'))
  onTestFinished(() => rmSync(dataDir, { recursive: true }))
  const start = () => demoLogin(database.url, dataDir)
  const first = await start()
  expect(first).toEqual({ device: 'demo', token: expect.stringMatching(/^fb_/) })
  expect(await start()).toEqual(first)
  await withDatabase(database.url, (client) => client.query('UPDATE credential SET revoked_at = now()'))
  const second = await start()
  expect(second.device).toBe('demo')
  expect(second.token).not.toBe(first.token)
  await withDatabase(database.url, (client) =>
    changeStatus(client, byUser, { tenant: 'default', devices: ['demo'], status: 'removed' }),
  )
  const third = await start()
  expect(third.device).toBe('demo-2')
  expect(await start(), 'and keeps that one').toEqual(third)
})
