import type { Handle } from '#platform/handle.ts'
import type { DeviceEventRecord } from '#schema/device-event.ts'

/** Where device events go: Kafka, or straight to Postgres. */
export interface DeviceEventWriter extends Handle {
  /** Resolves when they are durable. Called again only after it has settled; what failed is handed over again, so it may be written twice. */
  write(records: readonly DeviceEventRecord[]): Promise<void>
}
