/** Microseconds since the epoch as a timestamp, exactly: to_timestamp() takes a double of seconds and loses some. */
export function timestampOf(parameter: string): string {
  return `timestamptz 'epoch' + ${parameter}::float8 * interval '1 microsecond'`
}

/** A timestamp as microseconds since the epoch: whole ones below 2^53, so a double holds them. */
export function microsOf(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000000)::float8`
}
