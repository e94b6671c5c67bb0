import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import { int4Array, textArray } from './array-parameter.ts'
import type { Message, Refusal } from './message.ts'
import type { Device, LearntNames, Tenant } from './names.ts'

/** Names that a device may bring into its tenant's dictionary, and that a dictionary holds. A name with another unit is another name. */
export const maxMetricsOfDevice = 500
export const maxMetricsOfTenant = 10_000

interface Metric {
  readonly tenant: Tenant
  readonly name: string
  readonly unit: string | undefined
}

/** Adds metrics that the dictionary lacks; parks messages that bring one past the caps, whole and in log order. */
export async function resolveMetrics(
  client: pg.ClientBase,
  messages: readonly Message[],
  learnt: LearntNames,
  parked: Map<number, Refusal>,
): Promise<void> {
  const missing = missingMetrics(messages, learnt, parked)
  if (missing.length === 0) return
  const unknown = await readMetrics(client, missing, learnt)
  // In one direction only, as with devices.
  const tenants = [...new Set(unknown.map(({ tenant }) => tenant))].sort((a, b) => a.id - b.id)
  for (const tenant of tenants) {
    // One transaction at a time adds to a dictionary, or two could pass the cap together. Held until it ends; new names are rare.
    await client.query('select pg_advisory_xact_lock($1, $2)', [advisoryLocks.metricSpace, tenant.id])
    const still = await readMetrics(
      client,
      unknown.filter((metric) => metric.tenant === tenant),
      learnt,
    )
    if (still.length > 0) await addMetrics(client, tenant, messages, learnt, parked)
  }
}

function missingMetrics(
  messages: readonly Message[],
  learnt: LearntNames,
  parked: ReadonlyMap<number, Refusal>,
): Metric[] {
  const missing: Metric[] = []
  const seen = new Set<string>()
  for (let index = 0; index < messages.length; index++) {
    if (parked.has(index)) continue
    for (const metric of unknownOf(messages[index] as Message, learnt)) {
      const key = keyOf(metric)
      if (seen.has(key)) continue
      seen.add(key)
      missing.push(metric)
    }
  }
  return missing
}

function unknownOf({ event }: Message, learnt: LearntNames): Metric[] {
  const { tenant } = learnt.device(event.tenant, event.device) as Device
  const unknown: Metric[] = []
  for (const { metric, unit } of event.readings)
    if (learnt.metric(tenant, metric, unit) === undefined) unknown.push({ tenant, name: metric, unit })
  return unknown
}

/** JSON keeps the parts apart whatever they hold. */
function keyOf({ tenant, name, unit }: Metric): string {
  return JSON.stringify([tenant.id, name, unit ?? null])
}

/** Returns those that are not in the table. */
async function readMetrics(client: pg.ClientBase, metrics: readonly Metric[], learnt: LearntNames): Promise<Metric[]> {
  const { rows } = await client.query<{ at: string; id: number }>({
    name: 'metrics',
    text: `select k.at, m.id
      from unnest($1::int4[], $2::text[], $3::text[]) with ordinality as k(tenant_id, name, unit, at)
      join metric m on m.tenant_id = k.tenant_id and m.name = k.name and m.unit is not distinct from k.unit`,
    values: parametersOf(metrics),
  })
  const found = new Set<Metric>()
  for (const { at, id } of rows) {
    const metric = metrics[Number(at) - 1] as Metric
    learnt.learnMetric(metric.tenant, metric.name, metric.unit, id)
    found.add(metric)
  }
  return metrics.filter((metric) => !found.has(metric))
}

function parametersOf(metrics: readonly Metric[]): Buffer[] {
  return [
    int4Array(metrics.map(({ tenant }) => tenant.id)),
    textArray(metrics.map(({ name }) => name)),
    textArray(metrics.map(({ unit }) => unit ?? null)),
  ]
}

async function addMetrics(
  client: pg.ClientBase,
  tenant: Tenant,
  messages: readonly Message[],
  learnt: LearntNames,
  parked: Map<number, Refusal>,
): Promise<void> {
  const wanted = new Map<number, { device: Device; unknown: Metric[] }>()
  for (let index = 0; index < messages.length; index++) {
    if (parked.has(index)) continue
    const message = messages[index] as Message
    const device = learnt.device(message.event.tenant, message.event.device) as Device
    if (device.tenant !== tenant) continue
    const unknown = unknownOf(message, learnt)
    if (unknown.length > 0) wanted.set(index, { device, unknown })
  }
  const counts = await countMetrics(client, tenant, [...wanted.values()])
  const granted = new Map<string, { metric: Metric; deviceId: number }>()
  for (const [index, { device, unknown }] of wanted) {
    const fresh = new Map<string, Metric>()
    for (const metric of unknown) {
      const key = keyOf(metric)
      if (!granted.has(key)) fresh.set(key, metric)
    }
    const ofDevice = (counts.devices.get(device.id) ?? 0) + fresh.size
    if (ofDevice > maxMetricsOfDevice || counts.tenant + fresh.size > maxMetricsOfTenant) {
      parked.set(index, tooMany(ofDevice > maxMetricsOfDevice))
      continue
    }
    counts.devices.set(device.id, ofDevice)
    counts.tenant += fresh.size
    for (const [key, metric] of fresh) granted.set(key, { metric, deviceId: device.id })
  }
  if (granted.size > 0) await insertMetrics(client, [...granted.values()], learnt)
}

function tooMany(ofDevice: boolean): Refusal {
  return {
    code: 'too_many_metrics',
    message: ofDevice
      ? `it brings new metric names past the ${maxMetricsOfDevice} that its device may bring`
      : `it brings new metric names past the ${maxMetricsOfTenant} that a tenant may have`,
  }
}

async function countMetrics(
  client: pg.ClientBase,
  tenant: Tenant,
  wanted: readonly { device: Device }[],
): Promise<{ tenant: number; devices: Map<number, number> }> {
  const ofTenant = await client.query<{ count: string }>('select count(*) from metric where tenant_id = $1', [
    tenant.id,
  ])
  const ofDevices = await client.query<{ id: number; count: string }>(
    'select first_device_id as id, count(*) from metric where first_device_id = any($1::int4[]) group by 1',
    [int4Array([...new Set(wanted.map(({ device }) => device.id))])],
  )
  return {
    tenant: Number(ofTenant.rows[0]?.count),
    devices: new Map(ofDevices.rows.map(({ id, count }) => [id, Number(count)])),
  }
}

async function insertMetrics(
  client: pg.ClientBase,
  granted: readonly { metric: Metric; deviceId: number }[],
  learnt: LearntNames,
): Promise<void> {
  const metrics = granted.map(({ metric }) => metric)
  await client.query(
    `insert into metric (tenant_id, name, unit, first_device_id)
      select tenant_id, name, unit, device_id from unnest($1::int4[], $2::text[], $3::text[], $4::int4[])
        as k(tenant_id, name, unit, device_id)
      on conflict (tenant_id, name, unit) do nothing`,
    [...parametersOf(metrics), int4Array(granted.map(({ deviceId }) => deviceId))],
  )
  await readMetrics(client, metrics, learnt)
}
