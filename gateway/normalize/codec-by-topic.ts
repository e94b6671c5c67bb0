import { awsShadowCodec, isAwsShadow } from './aws-shadow.ts'
import { chirpstackCodec, isChirpstackTopic } from './chirpstack.ts'
import type { Codec } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { esphomeCodec, isEsphome } from './esphome.ts'
import { homieCodec } from './homie.ts'
import { isOwntracksTopic, owntracksCodec } from './owntracks.ts'
import { shellyGen1Codec } from './shelly-gen1.ts'
import { isShellyGen2, shellyGen2Codec } from './shelly-gen2.ts'
import { isSparkplug, sparkplugCodec } from './sparkplug.ts'
import { isTasmota, tasmotaCodec } from './tasmota.ts'
import { isTheThingsStackTopic, theThingsStackCodec } from './the-things-stack.ts'
import { isThingsboard, thingsboardCodec } from './thingsboard.ts'
import { pathOf } from './topic-device.ts'
import { zigbee2mqttCodec } from './zigbee2mqtt.ts'

/** The rules that a topic or path alone decides on, the first that fit; undefined when the message itself must tell. */
export function codecByTopic(input: CodecInput): Codec | undefined {
  const { transport, topic } = input.context
  if (transport === 'http') {
    if (isThingsboard(input.context)) return thingsboardCodec
    return pathOf(topic) === '/pub' ? owntracksCodec : undefined
  }
  // Our own topics first: by far the most messages come there, and whatever a device calls its last segment, they keep their form.
  if (topic.startsWith('devices/') || topic.startsWith('gateways/me/')) return undefined
  return codecByRoot(input, topic) ?? codecByEnd(input, topic)
}

/** Formats that begin with a name of their own. */
function codecByRoot(input: CodecInput, topic: string): Codec | undefined {
  switch (topic.charCodeAt(0)) {
    case 0x76: // v
      if (isThingsboard(input.context)) return thingsboardCodec
      return isTheThingsStackTopic(topic) ? theThingsStackCodec : undefined
    case 0x61: // a
      return isChirpstackTopic(topic) ? chirpstackCodec : undefined
    case 0x6f: // o
      return isOwntracksTopic(topic) ? owntracksCodec : undefined
    case 0x7a: // z
      return isBelow(topic, 'zigbee2mqtt') ? zigbee2mqttCodec : undefined
    case 0x68: // h
      return isBelow(topic, 'homie') ? homieCodec : undefined
    case 0x73: // s
      return isSparkplug(topic) ? sparkplugCodec : undefined
    case 0x24: // $
      return isAwsShadow(topic) ? awsShadowCodec : undefined
    default:
      return undefined
  }
}

/** Formats whose devices are told their own prefix, and that end alike. */
function codecByEnd(input: CodecInput, topic: string): Codec | undefined {
  if (isShellyGen2(topic)) return shellyGen2Codec
  if (isBelow(topic, 'shellies')) return shellyGen1Codec
  if (isTasmota(topic)) return tasmotaCodec
  return isEsphome(input) ? esphomeCodec : undefined
}

function isBelow(topic: string, root: string): boolean {
  return topic.startsWith(root) && (topic.length === root.length || topic.charAt(root.length) === '/')
}
