import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto'

/** A certificate made for a test, with its key. */
export interface TestCertificate {
  readonly pem: string
  readonly keyPem: string
  readonly x509: X509Certificate
  readonly subject: Buffer
  readonly privateKey: KeyObject
}

interface Wanted {
  /** Several make several CNs. */
  readonly commonName: string | readonly string[]
  readonly dns?: readonly string[]
  readonly uris?: readonly string[]
  readonly ca?: boolean
  /** Self-signed when absent. */
  readonly issuer?: TestCertificate
  readonly fromMs?: number
  readonly untilMs?: number
}

/** Writes an X.509 v3 certificate (RFC 5280 §4.1) with an Ed25519 key, so that tests need no openssl and can lie where a CA would not. */
export function makeCertificate(wanted: Wanted): TestCertificate {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const subject = nameOf(typeof wanted.commonName === 'string' ? [wanted.commonName] : wanted.commonName)
  const { fromMs = Date.now() - 60_000, untilMs = Date.now() + 3_600_000 } = wanted
  const body = sequence(
    der(0xa0, integer(2)),
    der(0x02, Buffer.concat([Buffer.from([0x11]), randomBytes(8)])),
    ed25519,
    wanted.issuer?.subject ?? subject,
    sequence(time(fromMs), time(untilMs)),
    subject,
    publicKey.export({ format: 'der', type: 'spki' }),
    der(0xa3, sequence(...extensionsOf(wanted))),
  )
  const signature = sign(null, body, wanted.issuer?.privateKey ?? privateKey)
  const x509 = new X509Certificate(sequence(body, ed25519, der(0x03, Buffer.concat([Buffer.from([0]), signature]))))
  const keyPem = privateKey.export({ format: 'pem', type: 'pkcs8' }) as string
  return { pem: x509.toString(), keyPem, x509, subject, privateKey: createPrivateKey(keyPem) }
}

function extensionsOf({ ca = false, dns = [], uris = [] }: Wanted): Buffer[] {
  const names = [...dns.map((name) => der(0x82, Buffer.from(name))), ...uris.map((uri) => der(0x86, Buffer.from(uri)))]
  return [
    // basicConstraints (2.5.29.19)
    sequence(oid(0x55, 0x1d, 0x13), der(0x04, ca ? sequence(der(0x01, Buffer.from([0xff]))) : sequence())),
    // subjectAltName (2.5.29.17)
    ...(names.length === 0 ? [] : [sequence(oid(0x55, 0x1d, 0x11), der(0x04, sequence(...names)))]),
  ]
}

function nameOf(commonNames: readonly string[]): Buffer {
  return sequence(
    ...commonNames.map((name) => der(0x31, sequence(oid(0x55, 0x04, 0x03), der(0x0c, Buffer.from(name))))),
  )
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content
  const head =
    length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from(head), content])
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts))
}

function oid(...bytes: readonly number[]): Buffer {
  return der(0x06, Buffer.from(bytes))
}

function integer(value: number): Buffer {
  return der(0x02, Buffer.from([value]))
}

function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, '')
  return der(0x18, Buffer.from(digits)) // GeneralizedTime, yyyymmddhhmmssZ
}

/** 1.3.101.112 */
const ed25519 = sequence(oid(0x2b, 0x65, 0x70))
