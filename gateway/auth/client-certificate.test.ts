import { hash } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer, type PeerCertificate, type TLSSocket } from 'node:tls'
import { expect, it } from 'vitest'
import { makeCertificate, type TestCertificate } from './certificate.fixture.ts'
import { clientCertificateOf } from './client-certificate.ts'

const ca = makeCertificate({ commonName: 'Devices CA', ca: true })

it('says who a client is, from a real handshake', async () => {
  const untilMs = Date.UTC(2049, 0, 2, 3, 4, 5)
  const client = makeCertificate({
    commonName: 'pump-1',
    dns: ['pump-1.example'],
    uris: ['urn:device:a, DNS:other'],
    issuer: ca,
    untilMs,
  })
  const { authorized, certificate } = await handshake([ca], client, client.pem)
  expect(authorized).toBe(true)
  expect(certificate).toEqual({
    fingerprint: hash('sha256', client.x509.raw, 'base64'),
    issuerFingerprint: hash('sha256', ca.x509.raw, 'base64'),
    commonName: 'pump-1',
    alternativeNames: ['pump-1.example', 'urn:device:a, DNS:other'],
    expiresAtMs: untilMs,
  })
})

it('names the CA that signed it, an intermediate one too, whether the client sends that or not', async () => {
  const middle = makeCertificate({ commonName: 'Plant 7', ca: true, issuer: ca })
  const client = makeCertificate({ commonName: 'pump-1', issuer: middle })
  for (const sent of [client.pem + middle.pem, client.pem]) {
    const { authorized, certificate } = await handshake([ca, middle], client, sent)
    expect(authorized).toBe(true)
    expect(certificate?.issuerFingerprint).toBe(hash('sha256', middle.x509.raw, 'base64'))
  }
})

it("does not believe another tenant's CA of the same name that a client puts beside its certificate", async () => {
  const twin = makeCertificate({ commonName: 'Devices CA', ca: true })
  const client = makeCertificate({ commonName: 'pump-1', issuer: ca })
  for (const cas of [
    [ca, twin],
    [twin, ca],
  ]) {
    const { certificate } = await handshake(cas, client, client.pem + twin.pem)
    expect(certificate?.issuerFingerprint).toBe(hash('sha256', ca.x509.raw, 'base64'))
  }
})

it('has no name where there are several, no issuer that is not ours, and nothing without a certificate', async () => {
  const client = makeCertificate({ commonName: ['pump-1', 'pump-2'] })
  const { authorized, certificate } = await handshake([ca], client, client.pem)
  expect(authorized).toBe(false)
  expect(certificate?.commonName).toBeUndefined()
  expect(certificate?.issuerFingerprint).toBe('')
  expect(clientCertificateOf({} as PeerCertificate, [ca.x509])).toBeUndefined()
})

async function handshake(cas: readonly TestCertificate[], client: TestCertificate, certificates: string) {
  const own = makeCertificate({ commonName: 'gateway' })
  const server = createServer({
    key: own.keyPem,
    cert: own.pem,
    ca: cas.map(({ pem }) => pem),
    requestCert: true,
    rejectUnauthorized: false,
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const socket = connect({ port, host: '127.0.0.1', key: client.keyPem, cert: certificates, rejectUnauthorized: false })
  try {
    const [peer] = (await once(server, 'secureConnection')) as [TLSSocket]
    const found = clientCertificateOf(
      peer.getPeerCertificate(),
      cas.map(({ x509 }) => x509),
    )
    const answer = { authorized: peer.authorized, certificate: found }
    peer.destroy()
    return answer
  } finally {
    socket.destroy()
    server.close()
  }
}
