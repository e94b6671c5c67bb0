/**
 * What can go wrong, and what each edge answers. Codes are API: added or retired, never reused; docs/errors.md explains each.
 * Sources: RFC 9110 §15, RFC 6585 §4, MQTT 5.0 §2.4 and §3.4.2.1, MQTT 3.1.1 §3.2.2.3.
 */
export const errorTable = {
  BRIDGE_CONFIG_INVALID: { http: 500, retryable: false },
  BRIDGE_PORT_IN_USE: { http: 500, retryable: false },
  BRIDGE_SECOND_INSTANCE: { http: 500, retryable: false },
  BRIDGE_SCHEMA_NEWER: { http: 500, retryable: false },
  BRIDGE_SCHEMA_MISSING: { http: 500, retryable: false },
  BRIDGE_TOPICS_MISSING: { http: 500, retryable: false },
  BRIDGE_REPLICAS_MISSING: { http: 500, retryable: false },
  BRIDGE_DISK_FULL: { http: 503, retryable: true },
  BRIDGE_EMBEDDED_POSTGRES: { http: 500, retryable: false },
  BRIDGE_NOT_RUNNING: { http: 500, retryable: false },
  BRIDGE_USAGE: { http: 500, retryable: false },
  BRIDGE_EVENT_LOG_UNAVAILABLE: { http: 503, retryable: true },
  BRIDGE_EVENT_LOG_FULL: { http: 503, retryable: true },
  BRIDGE_OFFSET_FENCED: { http: 500, retryable: true },
  BRIDGE_OFFSET_OUT_OF_RANGE: { http: 500, retryable: false },
  BRIDGE_INTERNAL: { http: 500, retryable: false },
} as const

export type ErrorCode = keyof typeof errorTable

/** The one error class we throw. `cause` is the library's error, untouched; `details` never hold payloads or secrets. */
export class BridgeError extends Error {
  readonly code: ErrorCode
  readonly details: Record<string, string | number>

  constructor(code: ErrorCode, message: string, more: { cause?: unknown; details?: BridgeError['details'] } = {}) {
    super(message, { cause: more.cause })
    this.name = 'BridgeError'
    this.code = code
    this.details = more.details ?? {}
  }
}
