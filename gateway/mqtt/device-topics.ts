import type { Principal } from '../auth/principal.ts'
import type { OpenMode } from './open-mode.ts'

/**
 * Topics and client ids inside the broker carry tenant and device, so that two tenants' `esp32` never meet and nobody takes another
 * device's session over. `/` in a device id is escaped, or `devices/a/#` would cover the topics of a device `a/b`.
 */
export function insideName({ tenant, device }: Principal): string {
  return `${tenant}/${escaped(device)}`
}

/** Below which its own topics lie inside the broker. */
export function insidePrefix({ tenant, device }: Pick<Principal, 'tenant' | 'device'>): string {
  return `${tenant}/devices/${escaped(device)}/`
}

function escaped(device: string): string {
  return device.replaceAll('%', '%25').replaceAll('/', '%2F')
}

/** A filter that a client may subscribe to, and how its topics are named on either side. */
export interface InsideFilter {
  /** As the broker knows it. */
  readonly inside: string
  /** What the names of its topics begin with inside the broker, and for the client: `devices/me/`, `devices/pump-1/`, `gateways/me/`, `$`, or nothing. */
  readonly hidden: string
  readonly shown: string
}

/** `denied`: by the settings of open mode, which refuse it as 3.1.1 does. */
export type FilterRefusal = 'not_allowed' | 'invalid' | 'shared' | 'denied'

export interface FilterLimits {
  readonly maxTopicBytes: number
  readonly maxTopicLevels: number
}

/** The name inside is a few levels longer, and Aedes ends the connection at more than 100. */
export const maxInsideLevels = 96
const sysPrefix = '$SYS/broker/'

/** Below which lies what a tenant's clients call `$…`; no tenant's name holds a `$`. */
export function dollarPrefix(tenant: string): string {
  return `${tenant}$/`
}

/** Where Sparkplug's hosts speak to edge nodes; here, what we ask of them. */
export const sparkplugRoot = 'spBv1.0/'

/**
 * A device sees what is below its own name, and a fleet credential calls that `gateways/me/` as well; it also sees the commands for Sparkplug
 * edge nodes that it speaks for, each by its name. An operator sees all of its tenant and `$SYS/broker/`; in open mode everybody does, and every other topic that begins with `$`. All else is refused.
 */
export function insideFilter(
  filter: string,
  principal: Principal,
  limits: FilterLimits,
  open?: OpenMode,
): InsideFilter | FilterRefusal {
  if (filter.startsWith('$share/')) return 'shared'
  if (!isFilter(filter, limits)) return 'invalid'
  if (open?.denies(filter) === true) return 'denied'
  const own = insidePrefix(principal)
  for (const shown of prefixesOf(principal))
    if (filter.startsWith(shown) && filter.length > shown.length)
      return { inside: own + filter.slice(shown.length), hidden: own, shown }
  const { tenant } = principal
  if (!seesAll(principal, open)) {
    if (!isCommandOfNode(filter, principal)) return 'not_allowed'
    return { inside: `${tenant}/${filter}`, hidden: `${tenant}/${sparkplugRoot}`, shown: sparkplugRoot }
  }
  if (!filter.startsWith('$')) return { inside: `${tenant}/${filter}`, hidden: `${tenant}/`, shown: '' }
  if (open === undefined && !filter.startsWith(sysPrefix)) return 'not_allowed'
  const hidden = dollarPrefix(tenant)
  return { inside: hidden + filter.slice(1), hidden, shown: '$' }
}

/**
 * Whether a client may see a topic, by its name inside the broker: asked again for every delivery, since a subscription may be older than the
 * rights that its client has now.
 */
export function maySee(insideTopic: string, principal: Principal, open?: OpenMode): boolean {
  if (insideTopic.startsWith(insidePrefix(principal))) return true
  const { tenant } = principal
  if (!seesAll(principal, open))
    return insideTopic.startsWith(`${tenant}/`) && isCommandOfNode(insideTopic.slice(tenant.length + 1), principal)
  if (insideTopic.startsWith(`${tenant}/`)) return true
  const hidden = dollarPrefix(tenant)
  return insideTopic.startsWith(open === undefined ? `${hidden}SYS/broker/` : hidden)
}

/** `spBv1.0/GROUP/NCMD/NODE` or `DCMD`, and below, of a node that the credential speaks for. */
function isCommandOfNode(name: string, principal: Principal): boolean {
  if (!principal.fleet || !name.startsWith(sparkplugRoot)) return false
  const [, group = '', type, node = ''] = name.split('/', 4)
  if ((type !== 'NCMD' && type !== 'DCMD') || group === '' || node === '') return false
  const device = `${group}/${node}`
  return !/[+#]/.test(device) && principal.allows(device)
}

function seesAll(principal: Principal, open: OpenMode | undefined): boolean {
  return principal.operator || open !== undefined
}

/** The name inside the broker of a topic that a client publishes to. */
export function insideTopic(name: string, principal: Principal): string {
  const { tenant, device } = principal
  const segments = name.split('/')
  const [first, second, third] = segments
  const rest = (from: number) => segments.slice(from).join('/')
  if (first === 'devices' && segments.length > 2) {
    if (second === 'me' || second === device) return insidePrefix(principal) + rest(2)
    return `${tenant}/devices/${escaped(second as string)}/${rest(2)}`
  }
  if (first === 'v1' && second === 'devices' && third === 'me') return insidePrefix(principal) + rest(3)
  if ((first === 'gateways' && second === 'me') || (first === 'v1' && second === 'gateway'))
    return `${tenant}/gateways/${escaped(device)}/${rest(2)}`
  return name.startsWith('$') ? dollarPrefix(tenant) + name.slice(1) : `${tenant}/${name}`
}

function prefixesOf({ device, fleet }: Principal): string[] {
  const prefixes = ['devices/me/']
  if (!device.includes('/')) prefixes.push(`devices/${device}/`)
  if (fleet) prefixes.push('gateways/me/')
  return prefixes
}

/** Levels also for the broker's sake, which knows no topic of more than 100. */
function isFilter(filter: string, { maxTopicBytes, maxTopicLevels }: FilterLimits): boolean {
  if (filter === '' || filter.includes('\0') || Buffer.byteLength(filter) > maxTopicBytes) return false
  const levels = filter.split('/')
  if (levels.length > Math.min(maxTopicLevels, maxInsideLevels)) return false
  return levels.every(
    (level, index) =>
      level === '+' || (level === '#' ? index === levels.length - 1 : !level.includes('+') && !level.includes('#')),
  )
}
