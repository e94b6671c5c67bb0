/**
 * Why a message was refused or parked: one lower-case list for `dead_letter.code`, the metrics' `reason`, the problem's `code` and the
 * `errors` topic. The first group is what decoders say (docs/formats.md), the second is ours. Codes are API: added or retired, never reused.
 */
export const decodeCodes = [
  'empty',
  'malformed',
  'unsupported',
  'no_device',
  'bad_time',
  'bad_value',
  'unknown_alias',
  'too_deep',
  'too_many_readings',
] as const

export const gatewayCodes = [
  'bad_device',
  'too_old',
  'too_many_devices',
  'too_many_items',
  'contract',
  'not_allowed',
  'not_authenticated',
  'credential_disabled',
  'credentials_unavailable',
  'rate_limited',
  'too_large',
  'queue_full',
  'event_log_unavailable',
  'shutting_down',
  'protocol_error',
  'not_found',
  'internal',
] as const

export const workerCodes = ['too_many_metrics', 'too_many_ordinals', 'row_refused', 'record_refused'] as const

export const reasonCodes = [...decodeCodes, ...gatewayCodes, ...workerCodes] as const

export type DecodeCode = (typeof decodeCodes)[number]
export type ReasonCode = (typeof reasonCodes)[number]
