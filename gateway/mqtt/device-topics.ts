import type { Principal } from '../auth/principal.ts'

/**
 * Topics and client ids inside the broker carry tenant and device, so that two tenants' `esp32` never meet and nobody takes another
 * device's session over. `/` in a device id is escaped, or `devices/a/#` would cover the topics of a device `a/b`.
 */
export function insideName({ tenant, device }: Principal): string {
  return `${tenant}/${device.replaceAll('%', '%25').replaceAll('/', '%2F')}`
}

/** Below which its own topics lie inside the broker. */
export function insidePrefix(principal: Principal): string {
  return `${principal.tenant}/devices/${insideName(principal).slice(principal.tenant.length + 1)}/`
}

/** A filter that a device may subscribe to. */
export interface OwnFilter {
  /** What follows the device: `errors`, `#`, … */
  readonly rest: string
  /** How the device names itself, and wants to see itself named: `devices/me/`, `devices/pump-1/`, `gateways/me/`. */
  readonly prefix: string
}

export type FilterRefusal = 'not_allowed' | 'invalid' | 'shared'

const maxFilterLength = 512
const maxLevels = 32

/** A device sees what is below its own name, and a fleet credential also `gateways/me/`; all else is refused. */
export function ownFilter(filter: string, principal: Principal): OwnFilter | FilterRefusal {
  if (filter.startsWith('$share/')) return 'shared'
  if (!isFilter(filter)) return 'invalid'
  for (const prefix of prefixesOf(principal))
    if (filter.startsWith(prefix) && filter.length > prefix.length) return { prefix, rest: filter.slice(prefix.length) }
  return 'not_allowed'
}

/** Whether a topic filter covers a topic name (MQTT 5.0 §4.7.1). */
export function covers(filter: string, topic: string): boolean {
  const filterLevels = filter.split('/')
  const topicLevels = topic.split('/')
  for (let index = 0; index < filterLevels.length; index++) {
    const level = filterLevels[index]
    if (level === '#') return true
    if (index >= topicLevels.length || (level !== '+' && level !== topicLevels[index])) return false
  }
  return filterLevels.length === topicLevels.length
}

function prefixesOf({ device, fleet }: Principal): string[] {
  const prefixes = ['devices/me/']
  if (!device.includes('/')) prefixes.push(`devices/${device}/`)
  if (fleet) prefixes.push('gateways/me/')
  return prefixes
}

function isFilter(filter: string): boolean {
  if (filter === '' || filter.length > maxFilterLength || filter.includes('\0')) return false
  const levels = filter.split('/')
  if (levels.length > maxLevels) return false
  return levels.every(
    (level, index) =>
      level === '+' || (level === '#' ? index === levels.length - 1 : !level.includes('+') && !level.includes('#')),
  )
}
