import type { Gateway } from '#gateway/gateway.ts'
import type { Config } from '#platform/config-schema.ts'
import type { ListenOptions } from '#platform/listen.ts'

/** Where devices come in: a URL for each transport, or null for one that is off. */
export interface DeviceUrls {
  readonly mqtt: string | null
  readonly mqtts: string | null
  readonly http: string | null
  readonly https: string | null
  readonly ws: string | null
  readonly wss: string | null
}

export function deviceUrls({ mqtt, http }: Config, gateway: Gateway): DeviceUrls {
  const { mqttPort, mqttTlsPort, httpPort, httpTlsPort } = gateway
  const url = (scheme: string, host: string, port: number, path = '') =>
    port === 0 ? null : `${scheme}://${reachableHost(host)}:${port}${path}`
  return {
    mqtt: url('mqtt', mqtt.host, mqttPort),
    mqtts: url('mqtts', mqtt.host, mqttTlsPort),
    http: url('http', http.host, httpPort),
    https: url('https', http.host, httpTlsPort),
    ws: http.webSocket ? url('ws', http.host, httpPort, '/mqtt') : null,
    wss: http.webSocket ? url('wss', http.host, httpTlsPort, '/mqtt') : null,
  }
}

/** The ports that a gateway will open for devices. */
export function devicePorts({ mqtt, http, tls }: Config): ListenOptions[] {
  return [
    ...(mqtt.plain ? [{ variable: 'BRIDGE_MQTT_PORT', host: mqtt.host, port: mqtt.port }] : []),
    ...(http.plain ? [{ variable: 'BRIDGE_HTTP_PORT', host: http.host, port: http.port }] : []),
    ...(tls.certFile !== undefined
      ? [
          { variable: 'BRIDGE_MQTT_TLS_PORT', host: mqtt.host, port: mqtt.tlsPort },
          { variable: 'BRIDGE_HTTP_TLS_PORT', host: http.host, port: http.tlsPort },
        ]
      : []),
  ]
}

/** How a program on this machine reaches a listener: one on every address is `localhost`. */
export function reachableHost(host: string): string {
  if (host === '0.0.0.0' || host === '::' || host === '127.0.0.1') return 'localhost'
  return host.includes(':') ? `[${host}]` : host
}

/** The ops port depends on what runs: gateway and worker often share a machine. */
export function opsPort(configured: number | undefined, process: 'gateway' | 'worker'): number {
  return configured ?? (process === 'worker' ? 8083 : 8081)
}
