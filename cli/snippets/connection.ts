import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import type { Instance } from '../instance.ts'
import type { SnippetFacts } from './snippet.ts'

/** The running instance; one without TLS has no URLs for it. */
export type Running = Instance & { readonly mqtts?: string | null; readonly https?: string | null }

export interface ConnectionWishes {
  /** Absent: this machine's name. */
  readonly host?: string
  /** PEM of the authority that signed the gateway's certificate. Absent: the certificate itself, if it is its own. */
  readonly ca?: string
}

/**
 * How a device reaches the gateway: the ports of the running instance, else those of the settings.
 * @throws BridgeError BRIDGE_USAGE when the host is none, or a file cannot be read as certificates
 */
export function connectionOf(
  config: Config,
  running: Running | undefined,
  { host: wished, ca }: ConnectionWishes,
): Omit<SnippetFacts, 'device' | 'token'> {
  const host = wished === undefined ? ownName(config.mqtt.host) : checkedHost(wished)
  const { certFile } = config.tls
  const tlsPort = (url: string | null | undefined, { tlsPort: configured }: { readonly tlsPort: number }) =>
    url !== undefined ? portOf(url) : certFile !== undefined ? configured : undefined
  const mqttTlsPort = tlsPort(running?.mqtts, config.mqtt)
  const httpsPort = tlsPort(running?.https, config.http)
  const inUrl = host.includes(':') ? `[${host}]` : host
  const authority =
    mqttTlsPort === undefined && httpsPort === undefined
      ? undefined
      : ca !== undefined
        ? authorityIn(ca)
        : ownAuthority(certFile)
  const mqttPort = portOf(running?.mqtt) ?? config.mqtt.port
  const httpPort = portOf(running?.http) ?? config.http.port
  if ([mqttTlsPort ?? mqttPort, httpsPort ?? httpPort].includes(0))
    throw new BridgeError(
      'BRIDGE_USAGE',
      'a port is 0, so it is picked at the start, and nothing runs on this data folder that would tell it. Start it first (npm start), or set BRIDGE_DATA_DIR',
    )
  return {
    host,
    mqttPort,
    httpUrl: `http://${inUrl}:${httpPort}`,
    ...(mqttTlsPort !== undefined && { mqttTlsPort }),
    ...(httpsPort !== undefined && { httpsUrl: `https://${inUrl}:${httpsPort}` }),
    ...(authority !== undefined && { ca: authority }),
  }
}

/** A device elsewhere cannot use `localhost`, so it is named only where the gateway listens to nobody else. */
function ownName(listening: string): string {
  if (listening === '0.0.0.0' || listening === '::') return checkedHost(hostname())
  return listening === '127.0.0.1' || listening === '::1' ? 'localhost' : listening
}

function checkedHost(text: string): string {
  const host = text.replace(/^\[(.*)\]$/, '$1')
  if (!/^[A-Za-z0-9._:-]{1,253}$/.test(host))
    throw new BridgeError(
      'BRIDGE_USAGE',
      `${JSON.stringify(text.slice(0, 260))} is no host. Name the one that devices reach: --host gateway.example`,
    )
  return host
}

/** URLs of ours always name their port. */
function portOf(url: string | null | undefined): number | undefined {
  return url === null || url === undefined ? undefined : Number(new URL(url).port)
}

function authorityIn(path: string): { file: string; pem: string } {
  const file = resolve(path)
  const certificates = certificatesIn(file)
  if (!certificates.some(({ ca }) => ca) && certificates.length !== 1)
    throw new BridgeError('BRIDGE_USAGE', `${file} holds no certificate of an authority. Give its PEM to --ca.`)
  return { file, pem: certificates.map((certificate) => certificate.toString()).join('') }
}

/** A chain that ends in its own authority proves itself; any other was signed by one that is known or given by --ca. */
function ownAuthority(certFile: string | undefined): { file: string; pem: string } | undefined {
  if (certFile === undefined) return undefined
  const file = resolve(certFile)
  const last = certificatesIn(file).at(-1)
  return last?.checkIssued(last) ? { file, pem: last.toString() } : undefined
}

function certificatesIn(file: string): X509Certificate[] {
  try {
    const blocks = readFileSync(file, 'latin1').match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g)
    if (blocks !== null) return blocks.map((block) => new X509Certificate(block))
  } catch (cause) {
    throw new BridgeError('BRIDGE_USAGE', `${file} cannot be read as certificates: ${(cause as Error).message}`, {
      cause,
    })
  }
  throw new BridgeError('BRIDGE_USAGE', `${file} holds no certificate in PEM`)
}
