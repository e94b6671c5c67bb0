import { awsShadowCodec } from './aws-shadow.ts'
import { chirpstackCodec } from './chirpstack.ts'
import { cloudEventsCodec } from './cloudevents.ts'
import type { Codec } from './codec.ts'
import { cborCodec, msgpackCodec } from './encoded-document.ts'
import { esphomeCodec } from './esphome.ts'
import { genericCodec, ownCodec } from './generic.ts'
import { homieCodec } from './homie.ts'
import { influxLineCodec } from './influx-line.ts'
import { owntracksCodec } from './owntracks.ts'
import { seedCodec } from './seed.ts'
import { senmlCborCodec, senmlCodec } from './senml.ts'
import { shellyGen1Codec } from './shelly-gen1.ts'
import { shellyGen2Codec } from './shelly-gen2.ts'
import { sparkplugCodec } from './sparkplug.ts'
import { tasmotaCodec } from './tasmota.ts'
import { theThingsStackCodec } from './the-things-stack.ts'
import { thingsboardCodec } from './thingsboard.ts'
import { zigbee2mqttCodec } from './zigbee2mqtt.ts'

/** All there are, for who chooses one by its name; own and generic are one set of rules. */
export const codecs: readonly Codec[] = [
  ownCodec,
  genericCodec,
  msgpackCodec,
  cborCodec,
  seedCodec,
  thingsboardCodec,
  influxLineCodec,
  senmlCodec,
  senmlCborCodec,
  cloudEventsCodec,
  sparkplugCodec,
  tasmotaCodec,
  zigbee2mqttCodec,
  shellyGen1Codec,
  shellyGen2Codec,
  esphomeCodec,
  homieCodec,
  theThingsStackCodec,
  chirpstackCodec,
  owntracksCodec,
  awsShadowCodec,
]

/** A codec by what `codec` says in the record. */
export const codecByName: ReadonlyMap<string, Codec> = new Map(codecs.map((codec) => [codec.name, codec]))
