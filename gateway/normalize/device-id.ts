import { recordLimits } from '#schema/telemetry-record.ts'

/** Control characters (C0, DEL, C1), and the wildcards of topic filters: a topic with such a name could not be published to. */
const forbidden = /[\p{Cc}+#]/u

/** What is wrong with a device id, in words, or undefined. `/` is allowed: ids that come from topics have it. */
export function faultOfDevice(device: string): string | undefined {
  if (device === '') return 'it is empty'
  if (device.length > recordLimits.deviceBytes) return `it is longer than ${recordLimits.deviceBytes} bytes`
  if (device.length * 3 > recordLimits.deviceBytes && Buffer.byteLength(device) > recordLimits.deviceBytes)
    return `it is longer than ${recordLimits.deviceBytes} bytes`
  if (device.charCodeAt(0) === 0x24) return 'it begins with $'
  if (forbidden.test(device)) return 'it has a control character, + or #'
  return device.isWellFormed() ? undefined : 'it has half a surrogate pair'
}
