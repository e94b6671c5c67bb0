import type pg from 'pg'
import { recordKey } from '#schema/kafka-topics.ts'
import { int4Array, textArray } from './array-parameter.ts'
import type { Message, Refusal } from './message.ts'
import type { LearntNames, Tenant } from './names.ts'

interface MissingDevice {
  readonly tenant: Tenant
  readonly name: string
  readonly gateway: string | null
}

/** Makes devices that the table lacks; parks messages of tenants that it lacks. */
export async function resolveDevices(
  client: pg.ClientBase,
  messages: readonly Message[],
  learnt: LearntNames,
  parked: Map<number, Refusal>,
): Promise<void> {
  const tenants = await resolveTenants(client, messages, learnt)
  const missing = new Map<string, MissingDevice>()
  for (let index = 0; index < messages.length; index++) {
    const { event } = messages[index] as Message
    if (learnt.device(event.tenant, event.device) !== undefined) continue
    const tenant = tenants.get(event.tenant)
    if (tenant === undefined) {
      parked.set(index, { code: 'row_refused', message: `there is no tenant "${event.tenant.slice(0, 63)}"` })
      continue
    }
    const key = recordKey(event.tenant, event.device)
    if (!missing.has(key)) missing.set(key, { tenant, name: event.device, gateway: event.gateway ?? null })
  }
  const unknown = await readDevices(client, [...missing.values()], learnt)
  if (unknown.length === 0) return
  await insertDevices(client, unknown, learnt)
  // Those that another transaction made meanwhile: its rows are visible now that it has ended.
  const others = unknown.filter(({ tenant, name }) => learnt.device(tenant.name, name) === undefined)
  if (others.length > 0) await readDevices(client, others, learnt)
}

async function resolveTenants(
  client: pg.ClientBase,
  messages: readonly Message[],
  learnt: LearntNames,
): Promise<Map<string, Tenant>> {
  const known = new Map<string, Tenant>()
  const missing = new Set<string>()
  for (const { event } of messages) {
    if (known.has(event.tenant) || missing.has(event.tenant)) continue
    const tenant = learnt.cache.tenant(event.tenant)
    if (tenant === undefined) missing.add(event.tenant)
    else known.set(event.tenant, tenant)
  }
  if (missing.size > 0) {
    const { rows } = await client.query<{ id: number; name: string }>({
      name: 'tenants',
      text: 'select id, name from tenant where name = any($1::text[])',
      values: [textArray([...missing])],
    })
    for (const { id, name } of rows) known.set(name, learnt.cache.addTenant(id, name))
  }
  return known
}

/** Returns those that are not in the table. */
async function readDevices(
  client: pg.ClientBase,
  devices: readonly MissingDevice[],
  learnt: LearntNames,
): Promise<MissingDevice[]> {
  if (devices.length === 0) return []
  const { rows } = await client.query<{ at: string; id: number }>({
    name: 'devices',
    text: `select k.at, d.id
      from unnest($1::int4[], $2::text[]) with ordinality as k(tenant_id, external_id, at)
      join device d on d.tenant_id = k.tenant_id and d.external_id = k.external_id`,
    values: [int4Array(devices.map(({ tenant }) => tenant.id)), textArray(devices.map(({ name }) => name))],
  })
  const found = new Set<MissingDevice>()
  for (const { at, id } of rows) {
    const device = devices[Number(at) - 1] as MissingDevice
    learnt.learnDevice(device.tenant, device.name, id)
    found.add(device)
  }
  return devices.filter((device) => !found.has(device))
}

/** Sorted, so that two transactions with the same new devices wait for each other in one direction only. */
async function insertDevices(
  client: pg.ClientBase,
  devices: readonly MissingDevice[],
  learnt: LearntNames,
): Promise<void> {
  const sorted = devices.toSorted((a, b) => a.tenant.id - b.tenant.id || compare(a.name, b.name))
  const { rows } = await client.query<{ id: number; tenant_id: number; external_id: string }>({
    name: 'new-devices',
    text: `insert into device (tenant_id, external_id, created_by)
      select k.tenant_id, k.external_id, (
        select c.id from credential c join device g on g.id = c.device_id
        where g.tenant_id = k.tenant_id and g.external_id = k.gateway and c.fleet
        order by c.revoked_at is not null, c.created_at desc limit 1
      )
      from unnest($1::int4[], $2::text[], $3::text[]) as k(tenant_id, external_id, gateway)
      on conflict (tenant_id, external_id) do nothing
      returning id, tenant_id, external_id`,
    values: [
      int4Array(sorted.map(({ tenant }) => tenant.id)),
      textArray(sorted.map(({ name }) => name)),
      textArray(sorted.map(({ gateway }) => gateway)),
    ],
  })
  const tenants = new Map(sorted.map(({ tenant }) => [tenant.id, tenant]))
  for (const row of rows) learnt.learnDevice(tenants.get(row.tenant_id) as Tenant, row.external_id, row.id)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
