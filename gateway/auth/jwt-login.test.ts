import { createHmac, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Config } from '#platform/config-schema.ts'
import { silentLog } from '#platform/log.ts'
import { type JwtLogin, startJwtLogin } from './jwt-login.ts'
import { deviceRow, knownOf } from './known.fixture.ts'

type Json = Record<string, unknown>

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const otherRsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ed25519 = generateKeyPairSync('ed25519')
const secret = randomBytes(32)
const soon = () => Math.floor(Date.now() / 1000) + 600
const claims = (): Json => ({ iss: 'https://issuer.example', aud: 'fleetbridge', sub: 'pump-1', exp: soon() })

let folder: string
let login: JwtLogin | undefined

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'jwt-'))
})

afterEach(async () => {
  await login?.close()
  await rm(folder, { recursive: true })
})

it.each([
  ['RS256', jwkOf(rsa.publicKey), rsa.privateKey],
  ['PS256', jwkOf(rsa.publicKey), rsa.privateKey],
  ['ES256', jwkOf(p256.publicKey), p256.privateKey],
  ['EdDSA', jwkOf(ed25519.publicKey), ed25519.privateKey],
  ['HS256', { kty: 'oct', k: secret.toString('base64url') }, secret],
] as const)('verifies %s, and knows the token the second time', async (alg, jwk, key) => {
  const { check } = await start({ algorithms: [alg], keys: { keys: [jwk] } })
  const exp = soon()
  const token = tokenOf({ alg }, { ...claims(), exp }, key)
  const principal = await check(token)
  expect(principal).toMatchObject({
    tenant: 'acme',
    device: 'pump-1',
    fleet: false,
    operator: false,
    expiresAtMs: exp * 1000,
  })
  expect(check(token), 'at once').toBe(principal)
  expect(await check(token, 'pump-1@acme')).toBe(principal)
  expect(await check(token, 'pump-2')).toBe('unknown')
  // Flips a bit of each part.
  for (const part of [0, 1, 2]) {
    const parts = token.split('.')
    const bytes = Buffer.from(parts[part] as string, 'base64url')
    const middle = bytes.length >> 1
    bytes[middle] = (bytes[middle] as number) ^ 1
    parts[part] = bytes.toString('base64url')
    expect(await check(parts.join('.')), `part ${part}`).toBe(part === 0 ? 'no JWT' : 'unknown')
  }
})

it('refuses what the configuration does not allow', async () => {
  const { check } = await start({ algorithms: ['RS256'], keys: { keys: [jwkOf(rsa.publicKey)] } })
  const { exp, ...endless } = claims()
  const wrong: [string, string][] = [
    ['another key', tokenOf({ alg: 'RS256' }, claims(), otherRsa.privateKey)],
    ['another algorithm', tokenOf({ alg: 'PS256' }, claims(), rsa.privateKey)],
    ['no signature', `${tokenOf({ alg: 'none' }, claims(), secret).split('.', 2).join('.')}.`],
    ['no algorithm in other letters', tokenOf({ alg: 'nOnE' }, claims(), secret)],
    ['the public key as a secret', tokenOf({ alg: 'HS256' }, claims(), Buffer.from(pemOf(rsa.publicKey)))],
    ['another issuer', tokenOf({ alg: 'RS256' }, { ...claims(), iss: 'https://issuer.example/' }, rsa.privateKey)],
    ['another audience', tokenOf({ alg: 'RS256' }, { ...claims(), aud: ['a', 'b'] }, rsa.privateKey)],
    ['no end', tokenOf({ alg: 'RS256' }, endless, rsa.privateKey)],
    ['an end that is no number', tokenOf({ alg: 'RS256' }, { ...endless, exp: `${exp}` }, rsa.privateKey)],
    ['not yet', tokenOf({ alg: 'RS256' }, { ...claims(), nbf: soon() }, rsa.privateKey)],
    ['a device that is not there', tokenOf({ alg: 'RS256' }, { ...claims(), sub: 'pump-9' }, rsa.privateKey)],
    ["another tenant's device", tokenOf({ alg: 'RS256' }, { ...claims(), sub: 'pump-2' }, rsa.privateKey)],
    ['a newcomer without a row', tokenOf({ alg: 'RS256' }, { ...claims(), sub: 'pump-new' }, rsa.privateKey)],
    ['a device that is no text', tokenOf({ alg: 'RS256' }, { ...claims(), sub: ['pump-1'] }, rsa.privateKey)],
    ['an inherited claim', tokenOf({ alg: 'RS256' }, { ...claims(), sub: undefined }, rsa.privateKey)],
  ]
  for (const header of [
    { crit: ['exp'] },
    { jwk: jwkOf(otherRsa.publicKey) },
    { jku: 'https://evil.example/keys' },
    { x5c: ['AAAA'] },
    { x5u: 'https://evil.example/chain' },
    { b64: false },
    { zip: 'DEF' },
  ])
    wrong.push([Object.keys(header).join(), tokenOf({ alg: 'RS256', ...header }, claims(), rsa.privateKey)])
  for (const [why, token] of wrong) expect(await check(token), why).toBe('unknown')
  expect(
    await check(tokenOf({ alg: 'RS256' }, { ...claims(), aud: ['a', 'fleetbridge'] }, rsa.privateKey)),
  ).toMatchObject({
    device: 'pump-1',
  })
})

it('tells an expired token and a disabled device from an unknown one', async () => {
  const { check, feed } = await start({ algorithms: ['HS256'], keys: { kty: 'oct', k: secret.toString('base64url') } })
  for (const ago of [1, 20, 1000]) {
    const exp = Math.floor(Date.now() / 1000) - ago
    expect(await check(tokenOf({ alg: 'HS256' }, { ...claims(), exp }, secret))).toBe('disabled')
  }
  expect(await check(tokenOf({ alg: 'HS256' }, { ...claims(), sub: 'pump-off' }, secret))).toBe('disabled')
  const token = tokenOf({ alg: 'HS256' }, claims(), secret)
  const principal = await check(token)
  if (typeof principal === 'string') throw new Error(principal)
  expect(principal.isLive(Date.now())).toBe(true)
  expect(principal.isLive(principal.expiresAtMs)).toBe(false)
  feed(false, [deviceRow('pump-1', { tenant: 'acme', enabled: false })])
  expect(principal.isLive(Date.now())).toBe(false)
  expect(await check(token)).toBe('disabled')
})

it('looks a key up by kid, tries all without, and reads a PEM file', async () => {
  const keys = [
    { ...jwkOf(otherRsa.publicKey), kid: 'a' },
    { ...jwkOf(rsa.publicKey), kid: '../../etc/passwd' },
    { ...jwkOf(p256.publicKey), kid: 'c' },
  ]
  const { check } = await start({ algorithms: ['RS256'], keys: { keys } })
  expect(await check(tokenOf({ alg: 'RS256', kid: '../../etc/passwd' }, claims(), rsa.privateKey))).toMatchObject({
    device: 'pump-1',
  })
  expect(await check(tokenOf({ alg: 'RS256' }, claims(), rsa.privateKey))).toMatchObject({ device: 'pump-1' })
  for (const kid of ['a', 'c', '', '__proto__', 1, null])
    expect(await check(tokenOf({ alg: 'RS256', kid }, claims(), rsa.privateKey)), `kid ${kid}`).toBe('unknown')
  await login?.close()
  const named = await start({ algorithms: ['RS256', 'PS256'], keys: { ...jwkOf(rsa.publicKey), alg: 'PS256' } })
  expect(await named.check(tokenOf({ alg: 'PS256' }, claims(), rsa.privateKey))).toMatchObject({ device: 'pump-1' })
  expect(await named.check(tokenOf({ alg: 'RS256' }, claims(), rsa.privateKey)), 'not what the key is for').toBe(
    'unknown',
  )
  await login?.close()
  const pem = await start({ algorithms: ['RS256', 'HS256'], keys: pemOf(rsa.publicKey) })
  expect(await pem.check(tokenOf({ alg: 'RS256', kid: 'any' }, claims(), rsa.privateKey))).toMatchObject({
    device: 'pump-1',
  })
  expect(await pem.check(tokenOf({ alg: 'HS256' }, claims(), Buffer.from(pemOf(rsa.publicKey))))).toBe('unknown')
})

it('reads keys again when their file changes; a bad file changes nothing, and a key that is gone ends its sessions', async () => {
  const { check, file, changes } = await start({
    algorithms: ['EdDSA', 'ES256'],
    keys: { keys: [jwkOf(p256.publicKey)] },
  })
  const token = tokenOf({ alg: 'ES256' }, claims(), p256.privateKey)
  const principal = await check(token)
  if (typeof principal === 'string') throw new Error(principal)
  await replace(file, '{"keys":[')
  await login?.checkFiles()
  expect([check(token), principal.isLive(Date.now()), changes.count]).toEqual([principal, true, 0])
  await replace(file, { keys: [jwkOf(p256.publicKey), jwkOf(ed25519.publicKey)] })
  await login?.checkFiles()
  expect(principal.isLive(Date.now())).toBe(true)
  expect(await check(tokenOf({ alg: 'EdDSA' }, claims(), ed25519.privateKey))).toMatchObject({ device: 'pump-1' })
  await replace(file, { keys: [jwkOf(ed25519.publicKey)] })
  await login?.checkFiles()
  expect([principal.isLive(Date.now()), changes.count]).toEqual([false, 2])
  expect(await check(token)).toBe('unknown')
})

it.each([
  ['no JSON', '{', 'neither PEM nor JSON'],
  ['a short secret', { kty: 'oct', k: 'c2hvcnQ' }, 'HS256 needs 32'],
  ['a private key', { keys: [rsa.privateKey.export({ format: 'jwk' })] }, 'private key'],
  ['a private PEM', rsa.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string, 'private key'],
  ['keys of another kind', { keys: [jwkOf(p256.publicKey)] }, 'no key for RS256, HS256'],
  ['a key for encryption', { keys: [{ ...jwkOf(rsa.publicKey), use: 'enc' }] }, 'no key for RS256, HS256'],
  ['no set', { keys: {} }, 'no JWK set'],
])('does not start with %s', async (_, keys, message) => {
  await expect(start({ algorithms: ['RS256', 'HS256'], keys })).rejects.toThrow(message)
})

it('answers whatever is made of a token, and lets none of it in', async () => {
  const seed = Date.now() % 1_000_000
  console.log(`jwt: seed ${seed}`)
  const { check } = await start({ algorithms: ['HS256'], keys: { kty: 'oct', k: secret.toString('base64url') } })
  const token = tokenOf({ alg: 'HS256' }, claims(), secret)
  const letters = 'AZaz09-_.=+/ \0é{}"'
  for (let round = 0; round < 2000; round++) {
    const at = pick(seed, round, token.length)
    const cut = pick(seed, round + 0.25, 4)
    const put = letters.charAt(pick(seed, round + 0.5, letters.length)).repeat(pick(seed, round + 0.75, 3))
    const changed = token.slice(0, at) + put + token.slice(at + cut)
    const isSame = sameBytes(changed, token)
    const answer = await check(changed)
    if (!isSame) expect(typeof answer, changed).toBe('string')
  }
})

/** A whole number below `bound`, the same for the same seed and step. */
function pick(seed: number, step: number, bound: number): number {
  return createHmac('sha256', String(seed)).update(String(step)).digest().readUInt32BE() % bound
}

/** The last character of a part may hold bits that stand for nothing, and then another one is the same token. */
function sameBytes(a: string, b: string): boolean {
  const bytesOf = (token: string) => token.split('.').map((part) => Buffer.from(part, 'base64url').toString('hex'))
  return bytesOf(a).join('.') === bytesOf(b).join('.')
}

it('takes no text for a token that is none, or is too long', async () => {
  const { check } = await start({ algorithms: ['RS256'], keys: { keys: [jwkOf(rsa.publicKey)] } })
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  for (const text of [
    'a.b.c',
    '...',
    'a.b',
    `${part([])}.${part({})}.x`,
    `${part({ alg: 1 })}.${part({})}.x`,
    `${part({ alg: 'RS256' })}.${part(1)}.x`,
  ])
    expect(check(text), text).toBe('no JWT')
  const long = `${part({ alg: 'RS256' })}.${part({ a: 'x'.repeat(8192) })}.x`
  expect(check(long)).toBe('no JWT')
})

async function start({ algorithms, keys }: { algorithms: readonly string[]; keys: Json | string }) {
  const file = join(folder, 'keys')
  await replace(file, keys)
  const { known, feed } = knownOf()
  feed(true, [
    deviceRow('pump-1', { tenant: 'acme' }),
    deviceRow('pump-off', { tenant: 'acme', enabled: false }),
    deviceRow('pump-2'),
  ])
  known.devices.findOrAdd('acme', 'pump-new', 'new')
  const changes = { count: 0 }
  const issuer: Config['auth']['jwt'][number] = {
    tenant: 'acme',
    issuer: 'https://issuer.example',
    audience: 'fleetbridge',
    algorithms: [...algorithms] as never[],
    keysFile: file,
  }
  const started = await startJwtLogin([issuer], known.devices, { log: silentLog, onChange: () => changes.count++ })
  login = started
  const check = (text: string, username?: string) => started.check(text, username) ?? 'no JWT'
  return { check, feed, file, changes }
}

async function replace(file: string, keys: Json | string): Promise<void> {
  await writeFile(`${file}.new`, typeof keys === 'string' ? keys : JSON.stringify(keys))
  await rename(`${file}.new`, file)
}

/** Not made by jose: an attacker does not use it either. */
function tokenOf(header: Json, payload: Json, key: KeyObject | Buffer): string {
  const signed = [header, payload].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return `${signed}.${signatureOf(String(header.alg), Buffer.from(signed), key).toString('base64url')}`
}

function signatureOf(alg: string, data: Buffer, key: KeyObject | Buffer): Buffer {
  if (Buffer.isBuffer(key)) return createHmac('sha256', key).update(data).digest()
  switch (alg) {
    case 'EdDSA':
      return sign(null, data, key)
    case 'PS256':
      return sign('sha256', data, { key, padding: 6, saltLength: 32 })
    case 'ES256':
      return sign('sha256', data, { key, dsaEncoding: 'ieee-p1363' })
    default:
      return sign('sha256', data, key)
  }
}

function jwkOf(key: KeyObject): Json {
  return key.export({ format: 'jwk' }) as Json
}

function pemOf(key: KeyObject): string {
  return key.export({ format: 'pem', type: 'spki' }) as string
}
