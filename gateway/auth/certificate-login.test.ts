import { hash } from 'node:crypto'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import type { ClientCertificate } from './authenticator.ts'
import { makeCertificate, type TestCertificate } from './certificate.fixture.ts'
import { CertificateLogin } from './certificate-login.ts'
import { type ClientAuthorities, clientCaPems, startClientAuthorities } from './client-authorities.ts'
import { credentialRow, deviceRow, knownOf, sha256 } from './known.fixture.ts'

const acmeCa = makeCertificate({ commonName: 'Devices CA', ca: true })
const defaultCa = makeCertificate({ commonName: 'Devices CA', ca: true })

let folder: string
let authorities: ClientAuthorities | undefined

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ca-'))
})

afterEach(async () => {
  await authorities?.close()
  await rm(folder, { recursive: true })
})

it('lets a device in by the name that its own CA gave it, in the tenant of that CA', async () => {
  const { login } = await start()
  expect(login.check(shown('pump-1', acmeCa), undefined)).toMatchObject({
    tenant: 'acme',
    device: 'pump-1',
    fleet: false,
  })
  expect(login.check(shown('pump-1', acmeCa), 'pump-1@acme')).toMatchObject({ tenant: 'acme' })
  expect(login.check(shown('x', defaultCa, ['pump-1', 'pump-2']), 'pump-1')).toMatchObject({ tenant: 'default' })
  for (const [certificate, username] of [
    [shown('pump-1', acmeCa), 'pump-2'],
    [shown('pump-9', acmeCa), undefined],
    [shown('pump-new', acmeCa), undefined],
    [shown(undefined, acmeCa, ['pump-1']), undefined],
    [shown('pump-1', defaultCa), undefined],
    [shown('pump-1', makeCertificate({ commonName: 'Devices CA', ca: true })), undefined],
    [{ ...shown('pump-1', acmeCa), issuerFingerprint: '' }, undefined],
  ] as const)
    expect(login.check(certificate, username)).toBe('unknown')
})

it('ends with the certificate, the device, and a row that revokes it', async () => {
  const { login, feed } = await start()
  const certificate = shown('pump-1', acmeCa)
  expect(login.check({ ...certificate, expiresAtMs: Date.now() - 1 }, undefined)).toBe('disabled')
  const principal = login.check(certificate, undefined)
  if (typeof principal === 'string') throw new Error(principal)
  expect(principal.isLive(Date.now())).toBe(true)
  expect(principal.isLive(certificate.expiresAtMs)).toBe(false)
  feed(false, [deviceRow('pump-1', { tenant: 'acme', enabled: false })])
  expect([principal.isLive(Date.now()), login.check(certificate, undefined)]).toEqual([false, 'disabled'])
  feed(false, [deviceRow('pump-1', { tenant: 'acme' })])
  expect(principal.isLive(Date.now())).toBe(true)
  const row = credentialRow('pump-1', { tenant: 'acme', kind: 'certificate', revoked: true })
  feed(false, [], [{ ...row, secretHash: Buffer.from(certificate.fingerprint, 'base64') }])
  expect([principal.isLive(Date.now()), login.check(certificate, undefined)]).toEqual([false, 'disabled'])
  expect(login.check(shown('pump-1', acmeCa), undefined), 'another certificate of the device').toMatchObject({
    device: 'pump-1',
  })
})

it('gives a pinned certificate the device and role of its row', async () => {
  const { login, feed } = await start()
  const certificate = shown('anything', acmeCa)
  const row = credentialRow('pump-2', {
    kind: 'certificate',
    fleet: true,
    pattern: 'site-*',
    secretHash: Buffer.from(certificate.fingerprint, 'base64'),
    expiresAtMs: Date.now() + 60_000,
  })
  feed(false, [], [row])
  const principal = login.check(certificate, 'pump-2@default')
  if (typeof principal === 'string') throw new Error(principal)
  expect(principal).toMatchObject({ tenant: 'default', device: 'pump-2', fleet: true, credentialId: row.credentialId })
  expect([principal.allows('site-1'), principal.allows('pump-1'), principal.expiresAtMs]).toEqual([
    true,
    false,
    row.expiresAtMs,
  ])
  expect(login.check({ ...certificate, issuerFingerprint: 'AAAA' }, undefined), 'of nobody’s CA').toBe('unknown')
  feed(false, [], [{ ...row, fleet: false, operator: true, pattern: null }])
  expect(principal.isLive(Date.now()), 'its role is another').toBe(false)
  expect(login.check(certificate, undefined)).toMatchObject({ operator: true })
  feed(false, [], [{ ...row, expiresAtMs: 1 }])
  expect(login.check(certificate, undefined)).toBe('disabled')
})

it('reads CAs again when a file changes; a bad file changes nothing, and a CA that is gone ends its sessions', async () => {
  const { login, files, changes } = await start()
  const principal = login.check(shown('pump-1', acmeCa), undefined)
  if (typeof principal === 'string') throw new Error(principal)
  await replace(files[0] as string, 'half a file')
  await authorities?.checkFiles()
  expect([principal.isLive(Date.now()), changes.count]).toEqual([true, 0])
  const next = makeCertificate({ commonName: 'Devices CA 2', ca: true })
  await replace(files[0] as string, acmeCa.pem + next.pem)
  await authorities?.checkFiles()
  expect(principal.isLive(Date.now())).toBe(true)
  expect(login.check(shown('pump-1', next), undefined)).toMatchObject({ tenant: 'acme' })
  await replace(files[0] as string, next.pem)
  await authorities?.checkFiles()
  expect([principal.isLive(Date.now()), changes.count]).toEqual([false, 2])
  expect(login.check(shown('pump-1', acmeCa), undefined)).toBe('unknown')
})

it('makes nobody of a root that several tenants have, and says so when a tenant has no other CA', async () => {
  const root = makeCertificate({ commonName: 'Root', ca: true })
  const middle = makeCertificate({ commonName: 'Acme', ca: true, issuer: root })
  const other = makeCertificate({ commonName: 'Default', ca: true, issuer: root })
  const { login, config } = await start([middle.pem + root.pem, other.pem + root.pem])
  expect(login.check(shown('pump-1', root, ['pump-1']), undefined)).toBe('unknown')
  expect(login.check(shown('pump-1', middle), undefined)).toMatchObject({ tenant: 'acme' })
  expect((await clientCaPems(config)).length).toBe(3)
  await authorities?.close()
  await expect(start([root.pem, root.pem])).rejects.toThrow('Give the tenant acme a CA of its own')
  await expect(start(['none', root.pem])).rejects.toThrow('holds no PEM certificate')
})

async function start([acme, other] = [acmeCa.pem, defaultCa.pem]) {
  const files = [join(folder, 'acme.pem'), join(folder, 'default.pem')] as const
  await replace(files[0], acme as string)
  await replace(files[1], other as string)
  const { known, feed } = knownOf()
  feed(true, [deviceRow('pump-1', { tenant: 'acme' }), deviceRow('pump-1'), deviceRow('pump-2')])
  known.devices.findOrAdd('acme', 'pump-new', 'new')
  const changes = { count: 0 }
  const config = [
    { tenant: 'acme', file: files[0] },
    { tenant: 'default', file: files[1], identity: 'san' as const },
  ]
  authorities = await startClientAuthorities(config, { log: silentLog, onChange: () => changes.count++ })
  return { login: new CertificateLogin(known, authorities), feed, files, changes, config }
}

async function replace(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text)
  await rename(`${file}.new`, file)
}

let serial = 0

/** What the transport hands over of a certificate that this CA signed. */
function shown(
  commonName: string | undefined,
  { x509 }: TestCertificate,
  alternativeNames: readonly string[] = [],
): ClientCertificate {
  return {
    fingerprint: sha256(`certificate ${serial++}`).toString('base64'),
    issuerFingerprint: hash('sha256', x509.raw, 'base64'),
    commonName,
    alternativeNames,
    expiresAtMs: Date.now() + 3_600_000,
  }
}
