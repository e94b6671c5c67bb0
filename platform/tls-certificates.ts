import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, type SecureContextOptions, type Server, type TlsOptions } from 'node:tls'
import type { Config } from './config-schema.ts'
import { BridgeError } from './errors.ts'
import { type Handle, handleOf } from './handle.ts'
import type { Log } from './log.ts'
import { watchFiles } from './watched-files.ts'

/** Whose client certificates are good, and the files that say so. */
export interface ClientAuthorities {
  readonly files: readonly string[]
  /** Reads the files; one PEM text for each authority. */
  pems(): Promise<readonly string[]>
}

export interface TlsOptionsOfUs {
  readonly log: Log
  readonly authorities?: ClientAuthorities
  /** How often the files are looked at. */
  readonly pollMs?: number
}

/** What all TLS servers of the process share: our certificate, its key, and the authorities of client certificates. */
export interface TlsCertificates extends Handle {
  /** For a new server. Client certificates are asked for but not required: who shows none, or a bad one, may still present a token. */
  serverOptions(): TlsOptions
  /** The server takes new files from their change on; sessions that are open stay. */
  follow(server: Renewable): void
  /** When our certificate ends, Date.now(). */
  expiresAtMs(): number
}

type Renewable = Pick<Server, 'setSecureContext' | 'setTicketKeys'>

interface Material extends SecureContextOptions {
  readonly certificate: X509Certificate
}

/** Who has not finished its handshake by then is cut off. */
const handshakeMs = 10_000
/** As `setTicketKeys` wants them. */
const ticketKeysBytes = 48

/**
 * Reads certificate and key, and again whenever the files change. A file that cannot be used keeps the one before it, and is told in the log.
 * @returns undefined when the configuration has no TLS
 * @throws {BridgeError} BRIDGE_CONFIG_INVALID that says which file, what is wrong with it, and what to do
 */
export async function startTlsCertificates(
  tls: Config['tls'],
  { log, authorities, pollMs = 1000 }: TlsOptionsOfUs,
): Promise<TlsCertificates | undefined> {
  const { certFile, keyFile, minVersion } = tls
  if (certFile === undefined && keyFile === undefined) {
    if (authorities === undefined) return undefined
    throw invalid(
      'auth.clientCas needs TLS: client certificates are shown in its handshake. Set BRIDGE_TLS_CERT_FILE and BRIDGE_TLS_KEY_FILE.',
    )
  }
  if (certFile === undefined || keyFile === undefined)
    throw invalid(
      certFile === undefined
        ? 'tls.keyFile is set without tls.certFile: set BRIDGE_TLS_CERT_FILE to its certificate'
        : 'tls.certFile is set without tls.keyFile: set BRIDGE_TLS_KEY_FILE to its private key',
    )
  const files = [certFile, keyFile, ...(authorities?.files ?? [])]
  const read = () => readMaterial(certFile, keyFile, minVersion, authorities)
  let current = await read()
  warnOfAge(current, certFile, log)
  const servers: Renewable[] = []
  const use = async () => {
    const material = await read()
    for (const server of servers) {
      server.setSecureContext(contextOf(material))
      // A resumed session is not verified again: what was good by an authority that is gone must not come back by its ticket.
      server.setTicketKeys(randomBytes(ticketKeysBytes))
    }
    current = material
    log.info({ certFile, until: material.certificate.validTo }, 'TLS files were read again')
    warnOfAge(material, certFile, log)
  }
  const watched = await watchFiles(files, use, { log, pollMs, standStill: true })
  return {
    ...handleOf(async () => watched.close()),
    serverOptions: () => ({
      ...contextOf(current),
      requestCert: authorities !== undefined,
      rejectUnauthorized: false,
      handshakeTimeout: handshakeMs,
    }),
    follow(server) {
      server.setSecureContext(contextOf(current))
      servers.push(server)
    },
    expiresAtMs: () => Date.parse(current.certificate.validTo),
  }
}

function contextOf({ certificate: _own, ...options }: Material): SecureContextOptions {
  return options
}

async function readMaterial(
  certFile: string,
  keyFile: string,
  minVersion: Config['tls']['minVersion'],
  authorities: ClientAuthorities | undefined,
): Promise<Material> {
  const cert = readFile(certFile, 'tls.certFile (BRIDGE_TLS_CERT_FILE)')
  const key = readFile(keyFile, 'tls.keyFile (BRIDGE_TLS_KEY_FILE)')
  const certificate = attempt(
    () => new X509Certificate(cert),
    `tls.certFile (BRIDGE_TLS_CERT_FILE): ${certFile} does not begin with a certificate in PEM form ("-----BEGIN CERTIFICATE-----")`,
  )
  const privateKey = attempt(
    () => createPrivateKey(key),
    `tls.keyFile (BRIDGE_TLS_KEY_FILE): ${keyFile} holds no private key in PEM form without a pass phrase (openssl pkey -in OLD -out ${keyFile} takes one off)`,
  )
  if (!certificate.checkPrivateKey(privateKey))
    throw invalid(
      `tls.keyFile (BRIDGE_TLS_KEY_FILE): ${keyFile} is not the key of the certificate in ${certFile}; the server's own certificate comes first in that file`,
    )
  const ca = authorities === undefined ? undefined : [...(await authorities.pems())]
  const material = { certificate, cert, key, minVersion, ...(ca !== undefined && { ca }) }
  attempt(
    () => createSecureContext(contextOf(material)),
    `tls.certFile (BRIDGE_TLS_CERT_FILE): ${certFile} and ${keyFile} cannot be used`,
  )
  return material
}

function readFile(path: string, setting: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const hint = code === 'EACCES' ? '; make it readable for the user that fleetbridge runs as' : ''
    throw invalid(`${setting}: cannot read ${path} (${code})${hint}`, error)
  }
}

function attempt<Result>(step: () => Result, problem: string): Result {
  try {
    return step()
  } catch (error) {
    throw invalid(`${problem}: ${(error as Error).message}`, error)
  }
}

function invalid(message: string, cause?: unknown): BridgeError {
  return new BridgeError('BRIDGE_CONFIG_INVALID', message, { cause })
}

function warnOfAge({ certificate }: Material, certFile: string, log: Log): void {
  const now = Date.now()
  if (Date.parse(certificate.validTo) < now || Date.parse(certificate.validFrom) > now)
    log.warn(
      { certFile, from: certificate.validFrom, until: certificate.validTo },
      'our TLS certificate is not valid today: clients will refuse it',
    )
}
