import { Command } from 'commander'
import { codecs } from '#gateway/normalize/codecs.ts'
import { print, printJson, table } from './output.ts'

export function createCodecsCommand(): Command {
  return new Command('codecs')
    .description('the formats that messages are decoded from, and what they are known by')
    .option('--json', 'print them as an array of objects')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge codecs\n  $ npx fleetbridge codecs --json\n\nThe rules of each: docs/formats.md',
    )
    .action(list)
}

async function list({ json }: { json?: true }): Promise<void> {
  const rows = codecs.map(({ name }) => ({ name, ...noteOf(name) }))
  if (json) return await printJson(rows)
  await print(
    table(
      ['codec', 'format', 'known by'],
      rows.map(({ name, format, knownBy }) => [name, format, knownBy]),
    ),
  )
}

interface Note {
  readonly format: string
  readonly knownBy: string
}

/** @throws {TypeError} for a codec that nobody has described */
export function noteOf(name: string): Note {
  const note = notes.get(name)
  if (note === undefined) throw new TypeError(`codec ${name} has no description`)
  return { format: note[0], knownBy: note[1] }
}

const notes = new Map<string, readonly [format: string, knownBy: string]>([
  ['own', ['our own form', 'JSON with an object "values"']],
  ['generic', ['any JSON, plain text', 'all else']],
  ['msgpack', ['own and generic form in MessagePack', 'content type application/msgpack']],
  ['cbor', ['own and generic form in CBOR', 'content type application/cbor']],
  ['seed', ['earlier IoT Stream Engine', 'JSON with reading_type and reading_value']],
  ['thingsboard', ['ThingsBoard', 'topics v1/devices/me/#, v1/gateway/#; path /api/v1/{token}/telemetry']],
  ['influx-line', ['InfluxDB line protocol', 'topics telegraf/#; paths /api/v2/write, /write']],
  ['senml', ['SenML JSON (RFC 8428)', 'content type application/senml+json']],
  ['senml-cbor', ['SenML CBOR (RFC 8428)', 'content type application/senml+cbor']],
  [
    'cloudevents',
    [
      'CloudEvents 1.0',
      'header ce-specversion; content type application/cloudevents+json, application/cloudevents-batch+json; JSON with specversion, type and source',
    ],
  ],
  ['sparkplug-b', ['Eclipse Sparkplug B', 'topics spBv1.0/#']],
  ['tasmota', ['Tasmota', 'topics with a segment tele or stat, and a last one in capitals']],
  ['zigbee2mqtt', ['Zigbee2MQTT', 'topics zigbee2mqtt/#']],
  ['shelly-gen1', ['Shelly, first generation', 'topics shellies/#']],
  ['shelly-gen2', ['Shelly, second generation and later', 'topics …/events/rpc, …/status/NAME, …/online']],
  ['esphome', ['ESPHome', 'topics …/COMPONENT/NAME/state, …/status']],
  ['homie', ['Homie 3 to 5', 'topics homie/#']],
  ['tts', ['The Things Stack v3', 'topics v3/+/devices/+/#; JSON with end_device_ids']],
  ['chirpstack', ['ChirpStack v4', 'topics application/+/device/+/#; JSON with deviceInfo']],
  ['owntracks', ['OwnTracks', 'topics owntracks/+/+; path /pub']],
  ['aws-shadow', ['AWS IoT device shadow', 'topics $aws/things/+/shadow/#']],
])
