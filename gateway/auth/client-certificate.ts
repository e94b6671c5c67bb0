import { hash, X509Certificate } from 'node:crypto'
import type { PeerCertificate } from 'node:tls'
import type { ClientCertificate } from './authenticator.ts'

/**
 * What the registry asks about a client's certificate. Call it only when the handshake said `authorized`.
 * The issuer is found here, by name and signature. Node's `issuerCertificate` is no help: it goes by names alone, so a client could put
 * another tenant's CA of the same name beside its own certificate; and on a server it is absent when the client sent an intermediate CA.
 * @param peer of `socket.getPeerCertificate()`
 * @param authorities certificates of the configured CAs; with none that signed this one `issuerFingerprint` is empty
 * @returns undefined when the client showed no certificate
 */
export function clientCertificateOf(
  peer: Pick<PeerCertificate, 'raw' | 'subject'>,
  authorities: Iterable<X509Certificate>,
): ClientCertificate | undefined {
  if (!Buffer.isBuffer(peer.raw)) return undefined // {} for a client without a certificate
  const certificate = new X509Certificate(peer.raw)
  return {
    fingerprint: hash('sha256', certificate.raw, 'base64'),
    issuerFingerprint: issuerOf(certificate, authorities),
    commonName: commonNameOf(peer.subject),
    alternativeNames: alternativeNamesOf(certificate.subjectAltName),
    expiresAtMs: certificate.validToDate.getTime(),
  }
}

function issuerOf(certificate: X509Certificate, authorities: Iterable<X509Certificate>): string {
  for (const authority of authorities)
    if (certificate.checkIssued(authority) && certificate.verify(authority.publicKey))
      return hash('sha256', authority.raw, 'base64')
  return ''
}

/** With several it would be unclear which one is the device. */
function commonNameOf(subject: PeerCertificate['subject'] | undefined): string | undefined {
  const name: unknown = subject?.CN
  return typeof name === 'string' && name !== '' ? name : undefined
}

/** `DNS:a.example, URI:"urn:with, comma"`: Node quotes as JSON what could be mistaken. Other types (IP, e-mail) name no device. */
function alternativeNamesOf(text: string | undefined): readonly string[] {
  const names: string[] = []
  for (const [, type, quoted, plain] of (text ?? '').matchAll(
    /([A-Za-z ]{1,20}):(?:("(?:[^"\\]|\\.)*")|([^,]*))(?:, |$)/g,
  ))
    if (type === 'DNS' || type === 'URI') names.push(quoted === undefined ? (plain as string) : unquoted(quoted))
  return names
}

function unquoted(text: string): string {
  try {
    return String(JSON.parse(text))
  } catch {
    return ''
  }
}
