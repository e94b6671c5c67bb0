import { createRequire } from 'node:module'

/** The part of kafkajs' RequestQueue that the override touches. */
export interface RequestQueue {
  readonly pending: { readonly length: number }
  throttledUntil: number
  throttleCheckTimeoutId: NodeJS.Timeout | null
  checkPendingRequests(): void
}

interface RequestQueueClass {
  new (options: object): RequestQueue
  prototype: { scheduleCheckPendingRequests(this: RequestQueue): void }
}

const checkIntervalMs = 10

/**
 * kafkajs 2.2.4 sets a timer after every answer, also with nothing queued, for `throttledUntil - now`: that is about minus now, which Node makes 1 ms.
 * So each busy connection wakes the process every millisecond, and Node 24 warns (TimeoutNegativeWarning). A timer is needed only while
 * requests wait: for the end of the broker's throttling, or as a fallback behind the in-flight limit.
 */
function scheduleCheckPendingRequests(this: RequestQueue): void {
  if (this.pending.length === 0 || this.throttleCheckTimeoutId !== null) return
  this.throttleCheckTimeoutId = setTimeout(
    () => {
      this.throttleCheckTimeoutId = null
      this.checkPendingRequests()
    },
    Math.max(checkIntervalMs, this.throttledUntil - Date.now()),
  )
}

/** Replaces the method once for all connections; returns the class, which the test drives. */
export function overrideRequestQueueTimer(): RequestQueueClass {
  const RequestQueue = createRequire(import.meta.url)('kafkajs/src/network/requestQueue/index.js') as RequestQueueClass
  RequestQueue.prototype.scheduleCheckPendingRequests = scheduleCheckPendingRequests
  return RequestQueue
}
