import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { assignDeviceType, listDeviceTypes, removeDeviceType, setDeviceType } from '../admin/registry/device-types.ts'
import { openRegistryDatabase, type RegistryDatabase } from './registry.fixture.ts'

const by = { actor: 'cli:test', makesTenants: true }
const contract = { metrics: { t: { type: 'number', max: 10 } } }
const broken = [{ metric: 't', value: 11, eventTimeUs: 1 }]
let database: RegistryDatabase

beforeEach(async () => {
  database = await openRegistryDatabase()
})
afterEach(() => database[Symbol.asyncDispose]())

it('gateways know within 2 s what holds for a device: types set, changed, assigned, taken back and removed', async () => {
  const { client } = database
  await database.addDevice('pump-1')
  await setDeviceType(client, by, { tenant: 'default', type: 'pump', mode: 'park', contract })
  await using one = await database.start()
  await using other = await database.start()
  const soon = async (check: (rules: ReturnType<typeof one.rulesOf>) => void) => {
    for (const registry of [one, other]) await vi.waitFor(() => check(registry.rulesOf('default', 'pump-1')), 2000)
  }
  await soon((rules) => expect(rules).toBeUndefined())
  expect(await assignDeviceType(client, by, { tenant: 'default', type: 'pump', devices: ['pump-1'] })).toBe(1)
  await soon((rules) => expect(rules?.contract?.faultOf(broken)).toContain('above 10'))
  await setDeviceType(client, by, { tenant: 'default', type: 'pump', identity: 'message' })
  await soon((rules) => expect(rules).toMatchObject({ identity: 'message', contractMode: 'park' }))
  await setDeviceType(client, by, { tenant: 'default', type: 'pump', mode: 'off' })
  await soon((rules) => expect([rules?.identity, rules?.contract]).toEqual(['message', undefined]))
  await assignDeviceType(client, by, { tenant: 'default', type: null, devices: ['pump-1'] })
  await soon((rules) => expect(rules).toBeUndefined())
  await assignDeviceType(client, by, { tenant: 'default', type: 'pump', devices: ['pump-1'] })
  await soon((rules) => expect(rules).toBeDefined())
  await removeDeviceType(client, by, 'default', 'pump')
  await soon((rules) => expect(rules).toBeUndefined())
  const { rows } = await client.query(`SELECT action, subject, details FROM audit ORDER BY id`)
  expect(rows.map(({ action, subject }) => `${action} ${subject}`)).toEqual([
    'device-type.set pump',
    'device-type.assign pump-1',
    'device-type.set pump',
    'device-type.set pump',
    'device-type.assign pump-1',
    'device-type.assign pump-1',
    'device-type.remove pump',
  ])
  expect(rows[0].details).toEqual({ mode: 'park', metrics: 1 })
})

it('what cannot be meant is refused, and changes nothing', async () => {
  const { client } = database
  const set = (change: object) => setDeviceType(client, by, { tenant: 'default', type: 'pump', ...change })
  await expect(set({ mode: 'park' })).rejects.toThrow('needs a contract')
  await expect(set({ contract: { metrics: 1 } })).rejects.toThrow('the contract is none')
  await expect(set({ contract: { metrics: { 'a\0': {} } } })).rejects.toThrow('U+0000')
  await expect(set({ type: 'a\nb' })).rejects.toThrow('control characters')
  await expect(removeDeviceType(client, by, 'default', 'pump')).rejects.toThrow('no rules')
  const devices = ['nobody']
  await expect(assignDeviceType(client, by, { tenant: 'default', type: 'pump', devices })).rejects.toThrow('"nobody"')
  expect(await listDeviceTypes(client, 'default')).toEqual([])
  await set({ contract, mode: 'warn' })
  await expect(set({ contract: null })).rejects.toThrow('needs a contract')
  expect(await listDeviceTypes(client, 'default')).toMatchObject([{ type: 'pump', mode: 'warn', contract }])
})
