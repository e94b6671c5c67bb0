import { type CheapHistogram, type Metrics, secondsBounds, sizeBounds } from '#platform/metrics.ts'

/** Why appends fail, or records are parked by the log. */
export type EventLogFailure = 'full' | 'unavailable' | 'record_refused' | 'producer_replaced'

export interface EventLogMetrics {
  readonly batchRecords: CheapHistogram
  readonly appendSeconds: CheapHistogram
  failed(reason: EventLogFailure): void
}

export function registerEventLogMetrics(
  metrics: Metrics,
  read: { bufferedBytes: () => number; awayMs: () => number },
): EventLogMetrics {
  const reasons = ['full', 'unavailable', 'record_refused', 'producer_replaced'] as const
  const failures = metrics.counter(
    'fleetbridge_event_log_failures_total',
    'Appends that the event log refused (full, unavailable), records it parked without their bytes, producers replaced after an error',
    ['reason'],
    reasons.map((reason) => ({ reason })),
  )
  metrics.gauge(
    'fleetbridge_event_log_buffered_bytes',
    'Bytes that wait for the event log or are on their way',
    read.bufferedBytes,
  )
  metrics.gauge(
    'fleetbridge_event_log_away_seconds',
    'For how long the event log has not answered; 0 when it is well',
    () => read.awayMs() / 1000,
  )
  return {
    batchRecords: metrics.histogram('fleetbridge_event_log_batch_records', 'Records of one send', sizeBounds),
    appendSeconds: metrics.histogram(
      'fleetbridge_event_log_append_seconds',
      'From append to durable, a micro-batch each',
      secondsBounds,
    ),
    failed: (reason) => failures.inc({ reason }),
  }
}
