import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt'
import { Value } from 'typebox/value'
import { onTestFinished } from 'vitest'
import { ClientAddresses } from '#platform/client-addresses.ts'
import { Config } from '#platform/config-schema.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import type { TestAuthority } from '#platform/testing/certificates.ts'
import { startTlsCertificates } from '#platform/tls-certificates.ts'
import type { Presented } from './auth/authenticator.ts'
import { clientCaPems } from './auth/client-authorities.ts'
import { clientCertificateOf } from './auth/client-certificate.ts'
import { LoginGuard } from './auth/login-guard.ts'
import type { CertificateReader } from './auth/shown-certificate.ts'
import { startHttpSource } from './http/http-source.ts'
import { startMqttSource } from './mqtt/mqtt-source.ts'
import { RecordingPipeline } from './mqtt/testing/recording-pipeline.ts'
import { mqttDefaults, TestAuthenticator } from './mqtt/testing/source.ts'
import { createWebSocketDoor } from './mqtt/web-socket-door.ts'

export interface TransportSettings {
  readonly mqtt?: Partial<Config['mqtt']>
  readonly http?: Partial<Config['http']>
  readonly from?: readonly string[]
  readonly failures?: string
}

const httpDefaults = Value.Default(Config.properties.http, {}) as Config['http']

/** Tokens as everywhere in the tests, and certificates whose common name is the device. */
export class CertificateAuthenticator extends TestAuthenticator {
  readonly shown: Presented[] = []

  override authenticate(presented: Presented) {
    this.shown.push(presented)
    const { secret, certificate } = presented
    if (secret !== undefined || certificate === undefined) return super.authenticate(presented)
    return super.authenticate({ secret: `t-${certificate.commonName}` })
  }
}

/** MQTT and HTTP sources with every transport, on free ports, and an authority for both ends. */
export async function startTransports(authority: TestAuthority, settings: TransportSettings = {}) {
  const { certFile, keyFile } = authority.server()
  const caFile = `${certFile}.ca`
  writeFileSync(caFile, authority.own.cert)
  const authenticator = new CertificateAuthenticator()
  const pipeline = new RecordingPipeline()
  const tls = await startTlsCertificates(
    { certFile, keyFile, minVersion: 'TLSv1.2' },
    {
      log: silentLog,
      authorities: { files: [caFile], pems: () => clientCaPems([{ tenant: 'default', file: caFile }]) },
      pollMs: 10,
    },
  )
  const shared = {
    pipeline,
    authenticator,
    log: silentLog,
    metrics: createMetrics('test'),
    tls,
    addresses: new ClientAddresses(settings.from),
    clientCertificateOf: (peer: Parameters<CertificateReader>[0]) =>
      clientCertificateOf(peer, [new X509Certificate(authority.own.cert)]),
    loginGuard: new LoginGuard(settings.failures ?? 'none'),
  }
  const local = { host: '127.0.0.1', port: 0, tlsPort: 0 }
  const mqtt = await startMqttSource({ ...mqttDefaults(), ...local, ...settings.mqtt }, shared)
  const http = await startHttpSource(
    { ...httpDefaults, ...local, ...settings.http },
    { ...shared, webSocketDoor: createWebSocketDoor({ maxPacketBytes: 1_048_576, accept: mqtt.accept }) },
  )
  onTestFinished(async () => {
    await Promise.all([mqtt.close(), http.close()])
    await tls?.close()
  })
  const urls = {
    mqtt: `mqtt://127.0.0.1:${mqtt.port}`,
    mqtts: `mqtts://localhost:${mqtt.tlsPort}`,
    ws: `ws://127.0.0.1:${http.port}/mqtt`,
    wss: `wss://localhost:${http.tlsPort}/mqtt`,
  }
  return {
    authority,
    authenticator,
    pipeline,
    mqtt,
    http,
    urls,
    certFile,
    keyFile,
    caFile,
    async connect(transport: keyof typeof urls, options: IClientOptions = {}): Promise<MqttClient> {
      const client = await connectAsync(
        urls[transport],
        { ca: authority.own.cert, reconnectPeriod: 0, username: 'pump-1', password: 't-pump-1', ...options },
        false,
      )
      client.on('error', () => {})
      onTestFinished(() => void client.end(true))
      return client
    },
  }
}

/** Puts another certificate in the place of the first, as tools do: key and certificate one after the other, each by a new file. */
export function replaceFiles(paths: { certFile: string; keyFile: string }, pem: { cert: string; key: string }): void {
  writeFileSync(paths.keyFile, pem.key)
  writeFileSync(paths.certFile, pem.cert)
}
