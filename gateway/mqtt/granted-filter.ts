import type { InsideFilter } from './device-topics.ts'

/** A filter that a client has been granted. */
export interface GrantedFilter extends InsideFilter {
  /** The highest at which its messages are delivered. */
  readonly qos: number
  /** Told to an MQTT 5 client with each message (§3.8.2.1.2). */
  readonly id: number | undefined
}
