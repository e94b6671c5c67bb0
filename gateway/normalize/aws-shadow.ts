import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { flattenMembers } from './flatten.ts'
import { ReadingList } from './reading-list.ts'
import { asObject, objectOf } from './text-reading.ts'
import { optionalTimeOf } from './time.ts'
import { named } from './topic-device.ts'

/** Devices made for AWS IoT: what they report on `$aws/things/THING/shadow/update`, or of a named shadow. */
export const awsShadowCodec: Codec = { name: 'aws-shadow', decode }

export function isAwsShadow(topic: string): boolean {
  return topic.startsWith('$aws/things/') && topic.split('/', 4)[3] === 'shadow'
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const [, , thing = '', , ...rest] = input.context.topic.split('/')
  // Longer topics are the service's answers.
  const isUpdate =
    rest.length === 1 ? rest[0] === 'update' : rest.length === 3 && rest[0] === 'name' && rest[2] === 'update'
  if (!isUpdate) return readings
  const message = objectOf(input)
  const { reported } = asObject(message.state, 'state')
  if (reported === undefined || reported === null) return readings
  flattenMembers(readings, named(thing), asObject(reported, 'state.reported'), optionalTimeOf(message.timestamp))
  return readings
}
