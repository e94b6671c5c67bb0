import { hash, X509Certificate } from 'node:crypto'
import type { DetailedPeerCertificate } from 'node:tls'
import type { ClientCertificate } from './authenticator.ts'

const maxChain = 10

/**
 * What the registry asks about a client's certificate. Call it only when the socket says `authorized`; undefined when the client showed none.
 * Node makes the chain of what the client sent by names alone (X509_check_issued compares no signature), so a client with a certificate of
 * one tenant's CA could put another tenant's CA of the same name beside it: every link is verified here, and a false one issues nothing.
 * @param peer of `socket.getPeerCertificate(true)`
 */
export function clientCertificateOf(peer: DetailedPeerCertificate): ClientCertificate | undefined {
  if (!Buffer.isBuffer(peer.raw)) return undefined // {} for a client without a certificate
  const leaf = new X509Certificate(peer.raw)
  return {
    fingerprint: hash('sha256', leaf.raw, 'base64'),
    issuerFingerprint: rootOf(leaf, peer),
    commonName: commonNameOf(peer.subject),
    alternativeNames: alternativeNamesOf(leaf.subjectAltName),
    expiresAtMs: leaf.validToDate.getTime(),
  }
}

/** The CA at the top of the chain: what the handshake trusted. Empty, and so nobody's, when a link is false. */
function rootOf(leaf: X509Certificate, peer: DetailedPeerCertificate): string {
  let certificate = leaf
  let link = peer
  for (let depth = 0; depth < maxChain; depth++) {
    const next = link.issuerCertificate as DetailedPeerCertificate | undefined
    // A root is its own issuer.
    if (next === undefined || next === link || next.raw.equals(link.raw))
      return depth === 0 ? '' : hash('sha256', certificate.raw, 'base64')
    const issuer = new X509Certificate(next.raw)
    if (!certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey)) return ''
    certificate = issuer
    link = next
  }
  return ''
}

/** With several it would be unclear which one is the device. */
function commonNameOf(subject: DetailedPeerCertificate['subject'] | undefined): string | undefined {
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
