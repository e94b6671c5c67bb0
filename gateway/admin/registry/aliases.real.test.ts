import { Readable } from 'node:stream'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { openRegistryDatabase, type RegistryDatabase } from '#gateway/auth/registry.fixture.ts'
import { changeAliases } from './aliases.ts'
import { listAudit } from './audit.ts'
import type { Change } from './change.ts'
import { addCredential } from './credentials.ts'
import { readDeviceCsv } from './device-csv.ts'
import { addDevices, changeStatus, exportDevices, type NewDevice, showDevice } from './devices.ts'
import { importBatch } from './import-devices.ts'

const by: Change = { actor: 'cli:test', makesTenants: true }
const tenant = 'default'
let database: RegistryDatabase
let client: RegistryDatabase['client']
beforeEach(async () => {
  database = await openRegistryDatabase()
  client = database.client
})
afterEach(() => database[Symbol.asyncDispose]())

const add = (...devices: NewDevice[]) => addDevices(client, by, tenant, devices)
const give = (device: string, ...names: string[]) =>
  changeAliases(client, by, { tenant, device, change: (aliases) => [...aliases, ...names] })
const take = (device: string, name: string) =>
  changeAliases(client, by, { tenant, device, change: (aliases) => aliases.filter((alias) => alias !== name) })
const aliasesOf = async (device: string) => (await showDevice(client, tenant, device)).aliases
const refused = (refusal: string, message: RegExp) =>
  expect.objectContaining({ code: 'BRIDGE_USAGE', details: { refusal }, message: expect.stringMatching(message) })

it('are given, taken away, shown and audited', async () => {
  await add({ device: 'plug-1', aliases: ['tasmota_1A2B3C'] }, { device: 'node-7' })
  expect(await give('node-7', '0102030405060708', 'plant/node7')).toEqual(['0102030405060708', 'plant/node7'])
  expect(await give('node-7', 'plant/node7'), 'a second time').toHaveLength(2)
  expect(await take('node-7', '0102030405060708')).toEqual(['plant/node7'])
  expect([await aliasesOf('plug-1'), await aliasesOf('node-7')]).toEqual([['tasmota_1A2B3C'], ['plant/node7']])
  const audit = await listAudit(client, { limit: 10, action: 'device.alias' })
  expect(audit.map(({ details }) => details)).toEqual([
    { added: [], removed: ['0102030405060708'] },
    { added: ['0102030405060708', 'plant/node7'], removed: [] },
  ])
})

it('are unique in their tenant, against ids too, both ways', async () => {
  await add({ device: 'a', aliases: ['x'] }, { device: 'b' })
  await expect(give('b', 'x')).rejects.toEqual(refused('conflict', /"x" is an alias of the device "a"/))
  await expect(give('b', 'a')).rejects.toEqual(refused('conflict', /"a" is a device already/))
  await expect(give('b', 'b')).rejects.toEqual(refused('invalid', /own id/))
  await expect(add({ device: 'x' })).rejects.toEqual(refused('conflict', /"x" is an alias/))
  await expect(add({ device: 'c', aliases: ['b'] })).rejects.toEqual(refused('conflict', /"b" is a device/))
  await expect(add({ device: 'c', aliases: ['y'] }, { device: 'y' })).rejects.toEqual(refused('invalid', /twice/))
  const fleet = { tenant, device: 'x', proof: { kind: 'token' }, role: 'fleet', makesDevice: true } as const
  await expect(addCredential(client, by, fleet)).rejects.toEqual(refused('conflict', /"x" is an alias/))
  await addDevices(client, by, 'acme', [{ device: 'x' }])
  expect(await aliasesOf('b')).toEqual([])
})

it('follow the rules of ids', async () => {
  await add({ device: 'a' })
  for (const name of ['', 'a+b', '$x', 'a;b', 'é'.repeat(65)])
    await expect(give('a', name), name).rejects.toEqual(refused('invalid', /the alias/))
  const many = Array.from({ length: 17 }, (_, index) => `n-${index}`)
  await expect(give('a', ...many)).rejects.toEqual(refused('invalid', /at most 16/))
})

it('of a removed device are free again', async () => {
  await add({ device: 'old', aliases: ['devEui'] }, { device: 'new' })
  await changeStatus(client, by, { tenant, devices: ['old'], status: 'removed' })
  expect(await give('new', 'devEui')).toEqual(['devEui'])
})

it('two that want the same name at once: one gets it', async () => {
  await add({ device: 'a' }, { device: 'b' })
  const other = await openOther()
  const both = await Promise.allSettled([
    give('a', 'x'),
    changeAliases(other, by, { tenant, device: 'b', change: () => ['x'] }),
  ])
  expect(both.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected'])
  await other.end()
})

it('come with a CSV, and go out with one', async () => {
  await add({ device: 'there', aliases: ['taken'] })
  const csv = await readDeviceCsv(
    Readable.from(['device,aliases\na,x; y\nb,x\nc,taken\ntaken,\nthere,new\nd,there\ne,a+b\nf,\n']),
    tenant,
  )
  const rejected: string[] = []
  for await (const { rows, rejected: bad } of csv.batches) {
    const batch = await importBatch(client, by, rows, { renew: false, overlapMs: 0 })
    for (const { line, reason } of [...bad, ...batch.rejected]) rejected.push(`${line} ${reason}`)
    expect(batch).toMatchObject({ added: [{ device: 'a' }, { device: 'f' }], skipped: 1 })
  }
  expect(rejected.sort()).toEqual([
    '3 has an alias that stands in this file already',
    '4 cannot be: "taken" is an alias of the device "there" already',
    '5 stands in this file twice',
    '7 has an alias that stands in this file already',
    expect.stringMatching(/^8 cannot be: the alias "a\+b" holds \+ or #/),
  ])
  const exported: string[] = []
  for await (const page of exportDevices(client, tenant))
    exported.push(...page.map(({ device, aliases }) => `${device} ${aliases}`))
  expect(exported.sort()).toEqual(['a x;y', 'f ', 'there taken'])
})

it('are known to every gateway within a second, and gone as fast', async () => {
  await add({ device: 'plug-1' })
  await using first = await database.start()
  await using second = await database.start()
  const found = () => [first, second].map(({ aliases }) => aliases.of(tenant)?.deviceOf('tasmota_1A2B3C'))
  expect(first.aliases.of(tenant), 'a tenant without aliases costs nothing').toBeUndefined()
  await give('plug-1', 'tasmota_1A2B3C')
  await vi.waitFor(() => expect(found()).toEqual(['plug-1', 'plug-1']), { timeout: 1000, interval: 10 })
  await add({ device: 'plug-2' })
  await changeStatus(client, by, { tenant, devices: ['plug-1'], status: 'removed' })
  await give('plug-2', 'tasmota_1A2B3C')
  await vi.waitFor(() => expect(found()).toEqual(['plug-2', 'plug-2']), { timeout: 1000, interval: 10 })
  await take('plug-2', 'tasmota_1A2B3C')
  await vi.waitFor(() => expect(first.aliases.of(tenant)).toBeUndefined(), { timeout: 1000, interval: 10 })
})

async function openOther() {
  const { Client } = (await import('pg')).default
  const other = new Client(database.url)
  await other.connect()
  return other
}
