import type { Route } from '../routes/route-table.ts'
import { chooseCodec } from './choose-codec.ts'
import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { checkReading } from './reading-limits.ts'

export interface DecodedMessage {
  readonly codec: Codec
  readonly decoded: Decoded
}

/**
 * A message by the rules that it falls under, without a credential to check it against: what the normalizer asks, for who only wants to see.
 * @throws {DecodeError}
 */
export function decodeMessage(input: CodecInput, route?: Route): DecodedMessage {
  const message = decodeRouted(input, route, true)
  for (const reading of message.decoded.readings) checkReading(reading)
  return message
}

/**
 * By the route's codec, else by the rules that the message falls under; then what the route does with the readings.
 * @param names whether the device is the route's to name
 * @throws {DecodeError}
 */
export function decodeRouted(input: CodecInput, route: Route | undefined, names: boolean): DecodedMessage {
  const codec = route?.rule.codec ?? chooseCodec(input)
  const decoded = codec.decode(input)
  if (route === undefined) return { codec, decoded }
  const readings = route.apply(decoded.readings, input.context.transportDevice ?? '', names)
  const { identity } = route.rule
  return { codec, decoded: { ...decoded, readings, identity: identity === 'message' ? identity : undefined } }
}
