import { pythonString } from './literals.ts'
import type { SnippetFacts } from './snippet.ts'

const open = 'Not encrypted: for a network of your own. With TLS (docs/transports.md) use port 8883.'

/** For the console of Tasmota: one line, which restarts it. */
export function tasmota({ host, mqttPort, mqttTlsPort, device, token }: SnippetFacts): string {
  const tls = mqttTlsPort === undefined ? '' : 'SetOption103 1; '
  return `# Tasmota: paste this line into its console (Tools > Console); it restarts by itself. Topics stay as they are.
# ${mqttTlsPort === undefined ? open : 'Needs a build with TLS (USE_MQTT_TLS).'}
Backlog ${tls}MqttHost ${host}; MqttPort ${mqttTlsPort ?? mqttPort}; MqttUser ${device}; MqttPassword ${token}; Topic ${device}; MqttClient ${device}; SetOption3 1
`
}

/** For Shelly Gen2 and later: its RPC over HTTP. Notifications of status are off in the factory's settings. */
export function shelly({ host, mqttPort, mqttTlsPort, ca, device, token }: SnippetFacts): string {
  const config = {
    enable: true,
    server: `${host.includes(':') ? `[${host}]` : host}:${mqttTlsPort ?? mqttPort}`,
    client_id: device,
    user: device,
    pass: token,
    topic_prefix: device,
    rpc_ntf: true,
    status_ntf: true,
    ssl_ca: mqttTlsPort === undefined ? null : ca === undefined ? 'ca.pem' : 'user_ca.pem',
  }
  return `#!/bin/sh
# Shelly Gen2 and later: set SHELLY to its address and run this. ${mqttTlsPort === undefined ? open : 'With an authority of your own put its PEM there first (Shelly.PutUserCA).'}
SHELLY=192.168.1.50
curl -sS -X POST "http://$SHELLY/rpc" -d '${JSON.stringify({ id: 1, method: 'MQTT.SetConfig', params: { config } })}'
curl -sS -X POST "http://$SHELLY/rpc" -d '{"id":2,"method":"Shelly.Reboot"}'
`
}

/** For ESPHome: a part of the node's YAML. */
export function esphome({ host, mqttPort, mqttTlsPort, ca, device, token }: SnippetFacts): string {
  const authority =
    mqttTlsPort === undefined || ca === undefined
      ? ''
      : `  certificate_authority: |\n${ca.pem
          .trim()
          .split('\n')
          .map((line) => `    ${line}\n`)
          .join('')}`
  return `# ESPHome: add this to the node's YAML.
# ${mqttTlsPort === undefined ? open : 'TLS needs the framework esp-idf, and the certificate of the authority.'}
mqtt:
  broker: ${pythonString(host)}
  port: ${mqttTlsPort ?? mqttPort}
  username: ${pythonString(device)}
  password: ${pythonString(token)}
  client_id: ${pythonString(device)}
  topic_prefix: ${pythonString(device)}
  discovery: false
  # A node that reboots while the gateway is away loses what it has measured.
  reboot_timeout: 0s
${authority}`
}
