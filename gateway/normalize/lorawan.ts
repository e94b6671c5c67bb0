import type { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { flattenMembers } from './flatten.ts'
import { isObject, type JsonObject } from './json.ts'
import type { ReadingList } from './reading-list.ts'
import { asObject, objectOf } from './text-reading.ts'
import { named, transportDevice } from './topic-device.ts'

/** What the network servers have in common: an event is one object, or over a webhook an array of them. */

/** @throws {DecodeError} `malformed` */
export function eventsOf(input: CodecInput, isTheirTopic: boolean): readonly JsonObject[] {
  if (isTheirTopic || !input.isDocument()) return [objectOf(input)]
  const document = input.json()
  if (!Array.isArray(document)) return [asObject(document, 'the message')]
  return document.map((event) => asObject(event, 'an event'))
}

/** The device that the event names, else the one of the topic, else the sender. */
export function deviceOfEvent(input: CodecInput, name: unknown, ofTopic: string | undefined): string {
  if (typeof name === 'string') return named(name)
  const { context } = input
  return named(ofTopic ?? context.device ?? transportDevice(context))
}

/** What a payload formatter made of the bytes, or where there is none, the bytes as they came (base64). */
export function addPayload(
  readings: ReadingList,
  device: string,
  decoded: unknown,
  raw: unknown,
  rawName: string,
  timeUs: number | undefined,
): void {
  if (isObject(decoded)) flattenMembers(readings, device, decoded, timeUs)
  else if (decoded !== undefined && decoded !== null)
    throw new DecodeError('malformed', 'the decoded payload must be an object')
  else if (typeof raw === 'string') readings.add(device, rawName, raw, undefined, timeUs)
  else if (raw !== undefined && raw !== null) throw new DecodeError('bad_value', `${rawName} must be a text`)
}
