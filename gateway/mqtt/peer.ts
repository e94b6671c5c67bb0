import type { ClientCertificate } from '../auth/authenticator.ts'

/** Who is at the other end of a connection, as its transport knows it. */
export interface Peer {
  /** Behind a proxy the client's own, from the PROXY protocol header. */
  readonly address: string
  readonly transport: 'tcp' | 'tls' | 'ws' | 'wss'
  /** Only one that the TLS handshake has verified. */
  readonly certificate: ClientCertificate | undefined
}
