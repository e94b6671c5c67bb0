import type { CodecContext } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'

export const fleetTopic = 'gateways/me/telemetry'

/** Topic segments after which a device id follows. */
const markers = new Set(['devices', 'device', 'things', 'thing', 'sensors', 'sensor', 'nodes', 'node'])

/** What a topic or path says besides the payload. */
export interface NamedByTopic {
  readonly device: string
  /** The segments after the device's own. */
  readonly rest: readonly string[]
}

/** The device after the first marker segment (`devices/{device}/…`); `me` is the sender itself. */
export function deviceSegment(context: CodecContext): NamedByTopic | undefined {
  const segments = segmentsOf(context)
  const at = segments.findIndex((segment) => markers.has(segment))
  if (at < 0 || at + 1 >= segments.length) return undefined
  const segment = segments[at + 1] as string
  return { device: segment === 'me' ? transportDevice(context) : segment, rest: segments.slice(at + 2) }
}

/**
 * The device of readings whose payload names none.
 * @throws {DecodeError} `no_device`
 */
export function deviceOfObject(context: CodecContext): string {
  const device = context.device ?? deviceSegment(context)?.device
  if (device !== undefined) return named(device)
  if (context.transport === 'http') return transportDevice(context)
  // The topic of all children is not the name of one.
  if (context.topic === fleetTopic) throw new DecodeError('no_device', 'each device needs its name: {"device": [ … ]}')
  return named(context.topic)
}

/** As `deviceOfObject`, with the metric of a payload that is one bare value. */
export function nameOfScalar(context: CodecContext): { device: string; metric: string } {
  const segment = deviceSegment(context)
  const device = context.device ?? segment?.device
  if (device !== undefined) return { device: named(device), metric: segment?.rest.join('.') || 'value' }
  if (context.transport === 'http') return { device: transportDevice(context), metric: 'value' }
  const slash = context.topic.lastIndexOf('/')
  if (slash < 0) return { device: transportDevice(context), metric: context.topic }
  return { device: named(context.topic.slice(0, slash)), metric: context.topic.slice(slash + 1) }
}

/** @throws {DecodeError} `no_device` where the sender is no device */
export function transportDevice({ transportDevice: device }: CodecContext): string {
  if (device === undefined || device === '') throw new DecodeError('no_device', 'nothing names a device')
  return device
}

/** @throws {DecodeError} `no_device` for an empty name */
export function named(device: string): string {
  if (device === '') throw new DecodeError('no_device', 'the name of the device is empty')
  return device
}

export function pathOf(topic: string): string {
  const query = topic.indexOf('?')
  return query < 0 ? topic : topic.slice(0, query)
}

function segmentsOf({ transport, topic }: CodecContext): string[] {
  return transport === 'mqtt' ? topic.split('/') : pathOf(topic).split('/').map(percentDecoded)
}

/** After splitting, so that `%2F` is part of a name. */
function percentDecoded(segment: string): string {
  if (!segment.includes('%')) return segment
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
