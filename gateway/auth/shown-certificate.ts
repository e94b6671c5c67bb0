import { type PeerCertificate, TLSSocket } from 'node:tls'
import type { ClientCertificate } from './authenticator.ts'

/** What the registry makes of a certificate that the TLS handshake has verified. */
export type CertificateReader = (peer: Pick<PeerCertificate, 'raw' | 'subject'>) => ClientCertificate | undefined

/**
 * The certificate that a client has shown, if it is one of our authorities'. Another one is as if none had been shown: the client may still have
 * a token.
 */
export function certificateShownOn(socket: unknown, read: CertificateReader): ClientCertificate | undefined {
  return socket instanceof TLSSocket && socket.authorized ? read(socket.getPeerCertificate()) : undefined
}

/** For a source that was given no authorities. */
export const readsNoCertificate: CertificateReader = () => undefined
