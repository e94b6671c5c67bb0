import type { Config } from '#platform/config-schema.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'

/** Readings that are older than this at their arrival were kept while the device could not send them. */
export const backlogUs = 600_000_000

/** Whether all that the event says is old: it then draws on the buckets of backlogs. */
export function isBacklog({ readings, ingestTimeUs }: TelemetryEvent): boolean {
  for (const { eventTimeUs } of readings) if (ingestTimeUs - eventTimeUs <= backlogUs) return false
  return true
}

/** Whether backlogs have buckets of their own; without any they count like live data, or nothing would limit them. */
export function catchesUp({
  catchUpDevice,
  catchUpFleet,
  catchUpTenant,
}: Pick<Config['limits'], 'catchUpDevice' | 'catchUpFleet' | 'catchUpTenant'>): boolean {
  return catchUpDevice !== 'none' || catchUpFleet !== 'none' || catchUpTenant !== 'none'
}
