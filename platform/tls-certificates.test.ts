import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { silentLog } from './log.ts'
import { TestAuthority } from './testing/certificates.ts'
import { startTlsCertificates, type TlsCertificates } from './tls-certificates.ts'

const authority = new TestAuthority()
const pem = authority.server()
const other = authority.server()
afterAll(() => authority[Symbol.dispose]())

const start = (certFile?: string, keyFile?: string, authorities?: { files: string[]; pems: () => Promise<string[]> }) =>
  startTlsCertificates(
    { minVersion: 'TLSv1.2', ...(certFile !== undefined && { certFile }), ...(keyFile !== undefined && { keyFile }) },
    { log: silentLog, ...(authorities && { authorities }) },
  )

function file(name: string, text: string): string {
  const path = join(authority.dir, name)
  writeFileSync(path, text)
  return path
}

describe('a start', () => {
  it('without TLS has none', async () => {
    await expect(start()).resolves.toBeUndefined()
  })

  it('asks for client certificates, without requiring them, only where there are authorities', async () => {
    await using plain = (await start(pem.certFile, pem.keyFile)) as TlsCertificates
    expect(plain.serverOptions()).toMatchObject({
      requestCert: false,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
    })
    expect(plain.serverOptions()).not.toHaveProperty('ca')
    expect(plain.expiresAtMs()).toBeGreaterThan(Date.now())
    const files = [authority.own.certFile]
    await using both = (await start(pem.certFile, pem.keyFile, {
      files,
      pems: async () => [authority.own.cert],
    })) as TlsCertificates
    expect(both.serverOptions()).toMatchObject({
      requestCert: true,
      rejectUnauthorized: false,
      ca: [authority.own.cert],
    })
  })

  const withPassPhrase = () => {
    const path = join(authority.dir, 'locked.key')
    execFileSync('openssl', ['pkey', '-in', pem.keyFile, '-aes256', '-passout', 'pass:x', '-out', path], {
      stdio: 'pipe',
    })
    return path
  }

  it.each([
    ['a certificate without a key', () => [pem.certFile], 'BRIDGE_TLS_KEY_FILE'],
    ['a key without a certificate', () => [undefined, pem.keyFile], 'BRIDGE_TLS_CERT_FILE'],
    ['a certificate that is not there', () => ['/nowhere/a.crt', pem.keyFile], 'cannot read /nowhere/a.crt (ENOENT)'],
    ['a key that is not there', () => [pem.certFile, '/nowhere/a.key'], 'cannot read /nowhere/a.key (ENOENT)'],
    ['a folder', () => [authority.dir, pem.keyFile], 'EISDIR'],
    [
      'a file that is no certificate',
      () => [file('no.crt', 'hello'), pem.keyFile],
      'no.crt does not begin with a certificate',
    ],
    ['an empty file', () => [file('empty.crt', ''), pem.keyFile], 'empty.crt does not begin'],
    ['a file that is no key', () => [pem.certFile, file('no.key', 'hello')], 'no.key holds no private key'],
    ['the two exchanged', () => [pem.keyFile, pem.certFile], 'does not begin with a certificate'],
    ['a key with a pass phrase', () => [pem.certFile, withPassPhrase()], 'without a pass phrase'],
    ['the key of another', () => [pem.certFile, other.keyFile], 'is not the key of the certificate in'],
  ] as [string, () => (string | undefined)[], string][])('%s says so', async (_what, files, text) => {
    const [certFile, keyFile] = files()
    await expect(start(certFile, keyFile)).rejects.toThrow(
      expect.objectContaining({ code: 'BRIDGE_CONFIG_INVALID', message: expect.stringContaining(text) }),
    )
  })

  it('with authorities of client certificates, but no certificate of ours, says so', async () => {
    await expect(start(undefined, undefined, { files: [], pems: async () => [] })).rejects.toThrow(
      'auth.clientCas needs TLS',
    )
  })
})
