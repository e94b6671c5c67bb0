import { isUtf8 } from 'node:buffer'
import { reasonCode } from '../packet-types.ts'

/**
 * What is wrong with a UTF-8 encoded string: ill-formed bytes, surrogates among them [MQTT-1.5.4-1], or U+0000 [MQTT-1.5.4-2]. Control
 * characters may be refused, and are not.
 * @returns 0, or the reason code with which the connection ends
 */
export function faultOfText(bytes: Buffer, start: number, end: number): number {
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number
    if (byte === 0) return reasonCode.malformed
    // Nearly all strings are ASCII, and then nothing is allocated for looking at them.
    if (byte > 0x7f) {
      const rest = bytes.subarray(at, end)
      return rest.includes(0) || !isUtf8(rest) ? reasonCode.malformed : 0
    }
  }
  return 0
}

/** Whether there is a `+` or `#` in a name, where neither may be [MQTT-4.7.1-1]. */
export function hasWildcard(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (bytes[at] === 0x2b || bytes[at] === 0x23) return true
  return false
}
