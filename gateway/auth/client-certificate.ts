import { hash, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type DetailedPeerCertificate, TLSSocket } from 'node:tls'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import type { ClientCertificate } from './authenticator.ts'

/** What the registry asks of a certificate that the TLS handshake has verified. */
export function clientCertificateOf(certificate: DetailedPeerCertificate): ClientCertificate {
  const { subject, raw, issuerCertificate, subjectaltname, valid_to: validTo } = certificate
  const commonName: unknown = subject?.CN // a list when there are several, which name nobody
  return {
    fingerprint: hash('sha256', raw, 'base64'),
    issuerFingerprint: hash('sha256', issuerCertificate?.raw ?? raw, 'base64'),
    commonName: typeof commonName === 'string' ? commonName : undefined,
    alternativeNames: alternativeNamesOf(subjectaltname),
    expiresAtMs: Date.parse(validTo),
  }
}

/**
 * The certificate that a client has shown, if it is one of our authorities'. Another one is as if none had been shown: the client may still have
 * a token.
 */
export function certificateShownOn(socket: unknown): ClientCertificate | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined
  return clientCertificateOf(socket.getPeerCertificate(true))
}

/** The certificates of all authorities. @throws {BridgeError} BRIDGE_CONFIG_INVALID that names the file */
export function clientCaPems(cas: Config['auth']['clientCas']): string[] {
  return cas.flatMap(({ file }) => {
    try {
      const found = readFileSync(file, 'utf8').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
      if (found.length === 0) throw new Error('there is no certificate in PEM form in it')
      for (const pem of found) new X509Certificate(pem)
      return [...found]
    } catch (error) {
      throw new BridgeError(
        'BRIDGE_CONFIG_INVALID',
        `auth.clientCas (BRIDGE_AUTH_CLIENT_CAS): ${file} cannot be used: ${(error as Error).message}`,
        { cause: error },
      )
    }
  })
}

/** Names with special characters come in quotes; such a certificate has none for us, since what is within could pose as another name. */
function alternativeNamesOf(text: string | undefined): readonly string[] {
  if (text === undefined || text.includes('"')) return []
  return text.split(', ').flatMap((entry) => /^(?:DNS|URI):(.+)$/.exec(entry)?.[1] ?? [])
}
