import { execFileSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { fingerprintOf, fingerprintOfPem } from './certificate.ts'

const hex = '0f'.repeat(32)
const bytes = Buffer.from(hex, 'hex')

it.each([
  hex,
  hex.toUpperCase(),
  hex.match(/../g)?.join(':') ?? '',
  `SHA256 Fingerprint=${hex.match(/../g)?.join(':')}`,
  `sha256 Fingerprint=${hex.toUpperCase()}\n`,
  bytes.toString('base64'),
])('reads the fingerprint %s', (text) => {
  expect(fingerprintOf(text)).toEqual(bytes)
})

it.each(['', 'ab', hex.slice(2), `${hex}00`, `g${hex.slice(1)}`, bytes.toString('base64').slice(1)])(
  'refuses %j',
  (text) => {
    expect(() => fingerprintOf(text)).toThrow(/openssl x509/)
  },
)

it('takes the fingerprint of a PEM file as openssl does, and of one certificate only', () => {
  const run = (args: string[], input?: string) =>
    execFileSync('openssl', args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'], ...(input && { input }) })
  const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', '-']
  const pem = run([...made, '-subj', '/CN=pump-1', '-days', '2'])
  expect(fingerprintOfPem(pem)).toEqual(fingerprintOf(run(['x509', '-noout', '-fingerprint', '-sha256'], pem)))
  expect(() => fingerprintOfPem(pem + pem)).toThrow(/holds 2/)
  expect(() => fingerprintOfPem('no PEM')).toThrow(/holds 0/)
  expect(() => fingerprintOfPem('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----')).toThrow(
    /cannot be read/,
  )
})
