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
export function decodeMessage(input: CodecInput): DecodedMessage {
  const codec = chooseCodec(input)
  const decoded = codec.decode(input)
  for (const reading of decoded.readings) checkReading(reading)
  return { codec, decoded }
}
