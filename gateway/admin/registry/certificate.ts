import { createHash, X509Certificate } from 'node:crypto'
import { invalid } from './refusal.ts'

/** A SHA-256 fingerprint as openssl, a browser or our own lists write it: hex with or without colons, or base64. @throws BridgeError BRIDGE_USAGE */
export function fingerprintOf(text: string): Buffer {
  const bare = text.trim().replace(/^sha256 fingerprint=/i, '')
  const hex = bare.replaceAll(':', '')
  if (/^[0-9a-f]{64}$/i.test(hex)) return Buffer.from(hex, 'hex')
  if (/^[A-Za-z0-9+/]{43}=$/.test(bare)) return Buffer.from(bare, 'base64')
  throw invalid(
    'a fingerprint is the SHA-256 of the certificate, 64 hexadecimal digits: openssl x509 -in device.pem -noout -fingerprint -sha256',
  )
}

/** The fingerprint of the one certificate in a PEM text. @throws BridgeError BRIDGE_USAGE, also when it has ended */
export function fingerprintOfPem(pem: string): Buffer {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
  if (blocks.length !== 1)
    throw invalid(`a PEM file with the device's own certificate alone is wanted; this one holds ${blocks.length}`)
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(blocks[0] as string)
  } catch (error) {
    throw invalid('the certificate cannot be read', error)
  }
  if (certificate.validToDate.getTime() <= Date.now()) throw invalid(`the certificate ended at ${certificate.validTo}`)
  return createHash('sha256').update(certificate.raw).digest()
}
