import type pg from 'pg'
import type { Reading } from '#schema/telemetry-event.ts'
import type { Message, Refusal } from './message.ts'
import { LearntNames, type NameCache } from './names.ts'
import { resolveDevices } from './resolve-devices.ts'
import { resolveMetrics } from './resolve-metrics.ts'

/** The numbers of a batch: a device a message (0: parked), a metric a reading, without those of parked messages. */
export interface ResolvedNames {
  readonly deviceIds: readonly number[]
  readonly metricIds: readonly number[]
  /** By index of the message. */
  readonly parked: ReadonlyMap<number, Refusal>
}

const nothingParked: ReadonlyMap<number, Refusal> = new Map()

/** The whole batch from the cache, or undefined when a name is not in it. */
export function resolveCached(messages: readonly Message[], cache: NameCache): ResolvedNames | undefined {
  return lookUp(messages, new LearntNames(cache), nothingParked)
}

/**
 * Reads the numbers of names that are new to us and makes rows for those that are new to the tables, in the caller's transaction.
 * Messages of an unknown tenant, and those that bring a metric past the caps, are parked.
 */
export async function resolveNames(
  client: pg.ClientBase,
  messages: readonly Message[],
  learnt: LearntNames,
): Promise<ResolvedNames> {
  const parked = new Map<number, Refusal>()
  await resolveDevices(client, messages, learnt, parked)
  await resolveMetrics(client, messages, learnt, parked)
  const resolved = lookUp(messages, learnt, parked)
  if (resolved === undefined) throw new Error('a name is still unknown after its row was made')
  return resolved
}

function lookUp(
  messages: readonly Message[],
  learnt: LearntNames,
  parked: ReadonlyMap<number, Refusal>,
): ResolvedNames | undefined {
  const deviceIds: number[] = []
  const metricIds: number[] = []
  for (let index = 0; index < messages.length; index++) {
    if (parked.size > 0 && parked.has(index)) {
      deviceIds.push(0)
      continue
    }
    const { event } = messages[index] as Message
    const device = learnt.device(event.tenant, event.device)
    if (device === undefined) return undefined
    deviceIds.push(device.id)
    for (let at = 0; at < event.readings.length; at++) {
      const { metric, unit } = event.readings[at] as Reading
      const id = learnt.metric(device.tenant, metric, unit)
      if (id === undefined) return undefined
      metricIds.push(id)
    }
  }
  return { deviceIds, metricIds, parked }
}
