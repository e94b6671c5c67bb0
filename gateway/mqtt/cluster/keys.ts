import type { Redis } from 'ioredis'

/** All names begin with it. What is of one client or topic goes on with its inside name, so with its tenant; the scripts make the same names. */
export const prefix = 'fleetbridge:mqtt:'

export const keys = {
  /** Hash: who has the client id, and the filters of its session. */
  session: (insideId: string) => `${prefix}session:${insideId}`,
  /** Stream: what waits for the session, until it is acknowledged. */
  queue: (insideId: string) => `${prefix}queue:${insideId}`,
  /** Set: the inside ids of a device's sessions. */
  device: (insideName: string) => `${prefix}device:${insideName}`,
  /** Set: the inside ids of sessions with a filter whose topics begin so. */
  listeners: (group: string) => `${prefix}listeners:${group}`,
  /** Hash: topic and message. */
  retained: (tenant: string) => `${prefix}retained:${tenant}`,
  /** Set: tenants that have such a hash. */
  retainedTenants: `${prefix}retained-tenants`,
  /** There while the gateway is. */
  gateway: (id: string) => `${prefix}gateway:${id}`,
  sequence: `${prefix}sequence`,
  /** Names the life of this Redis' data: another value, or none, and it has lost what we had there. */
  generation: `${prefix}generation`,
} as const

/** Where all gateways listen. Channels know no database, so it is in the name. */
export function eventsChannel({ options }: Redis): string {
  return `${prefix}events:${options.db ?? 0}`
}

/** Where those listen who have a subscriber for the errors of a tenant's devices. */
export function errorsChannel({ options }: Redis, tenant: string): string {
  return `${prefix}errors:${options.db ?? 0}:${tenant}`
}

/** The beginnings under which a filter that covers a topic may be found: its tenant's, and its device's own. */
export function groupsOf(insideTopic: string): string[] {
  const tenantEnd = insideTopic.indexOf('/') + 1
  const groups = [insideTopic.slice(0, tenantEnd)]
  if (insideTopic.startsWith('devices/', tenantEnd)) {
    const deviceEnd = insideTopic.indexOf('/', tenantEnd + 'devices/'.length) + 1
    if (deviceEnd > 0) groups.push(insideTopic.slice(0, deviceEnd))
  }
  return groups
}

/** @param insideName an inside topic, id or device */
export function tenantOf(insideName: string): string {
  const end = insideName.indexOf('/')
  // Topics that begin with `$` lie below `tenant$/`.
  return insideName.slice(0, insideName[end - 1] === '$' ? end - 1 : end)
}
