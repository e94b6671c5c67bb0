import { inComment, pythonString } from './literals.ts'
import type { SnippetFacts } from './snippet.ts'

const open = 'Not encrypted: for a network of your own. With TLS (docs/transports.md) use'

/** For Zigbee2MQTT: a part of configuration.yaml. Its devices come in by their friendly names. */
export function zigbee2mqtt({ host, mqttPort, mqttTlsPort, ca, device, token }: SnippetFacts): string {
  const server = `${mqttTlsPort === undefined ? 'mqtt' : 'mqtts'}://${host.includes(':') ? `[${host}]` : host}:${mqttTlsPort ?? mqttPort}`
  const authority = mqttTlsPort === undefined || ca === undefined ? '' : `  ca: ${pythonString(ca.file)}\n`
  return `# Zigbee2MQTT: in configuration.yaml, then restart it.
# ${mqttTlsPort === undefined ? `${open} mqtts:// and port 8883.` : 'The certificate is checked; an authority of your own is named by ca.'}
mqtt:
  base_topic: zigbee2mqtt
  server: ${pythonString(server)}
  user: ${pythonString(device)}
  password: ${pythonString(token)}
  client_id: ${pythonString(device)}
  version: 5
${authority}advanced:
  # Readings get the time of the device's last word, so that what is sent again is stored once.
  last_seen: ISO_8601
  output: json
`
}

/** For Telegraf: an output. The tag host names the device, so it is set to the device's id. */
export function telegraf({ httpUrl, httpsUrl, ca, device, token }: SnippetFacts): string {
  const authority = httpsUrl === undefined || ca === undefined ? '' : `  tls_ca = ${pythonString(ca.file)}\n`
  return `# Telegraf: in telegraf.conf. ${httpsUrl === undefined ? `${open} https and port 8443.` : ''}
[agent]
  # The tag host names the device of every reading.
  hostname = ${pythonString(device)}
  # Kept while the gateway is away.
  metric_buffer_limit = 100000

[[outputs.influxdb_v2]]
  urls = [${pythonString(httpsUrl ?? httpUrl)}]
  token = ${pythonString(token)}
  # Neither means anything here, but Telegraf wants them.
  organization = "fleetbridge"
  bucket = "fleetbridge"
${authority}`
}

/** For Home Assistant: a part of configuration.yaml. */
export function homeAssistant({ host, httpUrl, httpsUrl, ca, device, token }: SnippetFacts): string {
  const authority = httpsUrl === undefined || ca === undefined ? '' : `  ssl_ca_cert: ${pythonString(ca.file)}\n`
  return `# Home Assistant, as device ${inComment(device)}: in configuration.yaml, then restart it.
# ${httpsUrl === undefined ? `${open} ssl: true and port 8443.` : 'The certificate is checked.'}
influxdb:
  api_version: 2
  host: ${pythonString(host)}
  port: ${new URL(httpsUrl ?? httpUrl).port}
  ssl: ${httpsUrl !== undefined}
  verify_ssl: ${httpsUrl !== undefined}
${authority}  token: ${pythonString(token)}
  # Neither means anything here, but Home Assistant wants them.
  organization: fleetbridge
  bucket: fleetbridge
  # The name of the entity is the measurement; tags would be part of every metric's name.
  measurement_attr: entity_id
  precision: s
  include:
    domains: [sensor, binary_sensor, climate]
`
}
