import { scryptSync } from 'node:crypto'
import { expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { credentialRow, deviceRow, knownOf } from './known.fixture.ts'
import { PasswordLogin } from './password-login.ts'
import type { CredentialRow } from './registry-feed.ts'

/** Of little cost, so that tests are quick; unknown users cost the full price. */
function passwordRow(device: string, password: string, more: Partial<CredentialRow> = {}): CredentialRow {
  const hash = scryptSync(password, 'saltsaltsalt', 32, { N: 1024 }).toString('base64').replace('=', '')
  const passwordHash = `$scrypt$ln=10,r=8,p=1$${Buffer.from('saltsaltsalt').toString('base64')}$${hash}`
  return credentialRow(device, { kind: 'password', passwordHash, ...more })
}

function loginOf(rows: readonly CredentialRow[]) {
  const { known, feed } = knownOf()
  feed(
    true,
    rows.map(({ tenant, device }) => deviceRow(device, { tenant })),
    rows,
  )
  const login = new PasswordLogin(known, silentLog)
  const check = async (username: string, password: string) => {
    const answer = await login.check(username, password)
    return typeof answer === 'string' ? answer : `${answer.tenant}/${answer.device}`
  }
  return { login, feed, check }
}

it('finds a device by its name, of the tenant default or with its tenant', async () => {
  const { check } = loginOf([
    passwordRow('pump', 'of default'),
    passwordRow('pump', 'of acme', { tenant: 'acme' }),
    passwordRow('pump@plant', 'of a name with @'),
    passwordRow('only', 'of acme', { tenant: 'acme' }),
  ])
  expect(await check('pump', 'of default')).toBe('default/pump')
  expect(await check('pump@default', 'of default')).toBe('default/pump')
  expect(await check('pump@acme', 'of acme')).toBe('acme/pump')
  expect(await check('pump@plant', 'of a name with @')).toBe('default/pump@plant')
  expect(await check('pump@plant@default', 'of a name with @')).toBe('default/pump@plant')
  for (const [username, password] of [
    ['pump', 'of acme'],
    ['pump@acme', 'of default'],
    ['only', 'of acme'],
    ['nobody', 'of acme'],
    ['__proto__', 'of acme'],
    ['pump', ''],
  ] as const)
    expect(await check(username, password), username).toBe('unknown')
})

it('takes several passwords, and says disabled only to who knows the password', async () => {
  const { check, feed } = loginOf([
    passwordRow('pump', 'old', { createdMs: 1 }),
    passwordRow('pump', 'new', { createdMs: 2 }),
    passwordRow('pump', 'revoked', { createdMs: 3, revoked: true }),
    passwordRow('pump', 'expired', { createdMs: 4, expiresAtMs: 5 }),
  ])
  const answers = () => Promise.all(['old', 'new', 'revoked', 'expired', 'wrong'].map((text) => check('pump', text)))
  expect(await answers()).toEqual(['default/pump', 'default/pump', 'disabled', 'disabled', 'unknown'])
  feed(false, [deviceRow('pump', { enabled: false })])
  expect(await answers()).toEqual(['disabled', 'disabled', 'disabled', 'disabled', 'unknown'])
})

it('answers at once when it was right before, until the credential goes or is another', async () => {
  const row = passwordRow('pump', 'right')
  const { login, feed } = loginOf([row])
  const first = login.check('pump', 'right')
  expect(first).toBeInstanceOf(Promise)
  const principal = await first
  expect(login.check('pump', 'right')).toBe(principal)
  expect(login.check('pump', 'wrong'), 'a wrong one is never known').toBeInstanceOf(Promise)
  feed(false, [], [{ ...row, revoked: true }])
  expect(login.check('pump', 'right')).toBe('disabled')
  feed(false, [], [passwordRow('pump', 'other', { credentialId: row.credentialId })])
  expect(await login.check('pump', 'right')).toBe('unknown')
  expect(await login.check('pump', 'other')).toMatchObject({ device: 'pump' })
  feed(true, [deviceRow('pump')], [passwordRow('x', 'x')])
  expect(await login.check('pump', 'other'), 'its row is gone').toBe('unknown')
})

it('checks the same guess once, however often it comes at once, and bounds the rest', async () => {
  const { login } = loginOf([passwordRow('pump', 'right')])
  const same = Array.from({ length: 500 }, () => login.check('pump', 'wrong'))
  expect(new Set(same).size).toBe(1)
  const flood = Array.from({ length: 500 }, (_, guess) => login.check('pump', `wrong ${guess}`))
  const other = login.check('pump', 'right')
  const answers = await Promise.all(flood)
  expect(new Set(answers)).toEqual(new Set(['unknown', 'unavailable']))
  expect(answers.filter((answer) => answer === 'unknown').length, 'two at work, four in the row').toBeLessThanOrEqual(6)
  await Promise.all([...same, other])
  expect(await login.check('pump', 'right')).toMatchObject({ device: 'pump' })
})

it('takes as long for an unknown user as for a wrong password, and lets the event loop run', async () => {
  const { hashPassword } = await import('./password-hash.ts')
  const stored = credentialRow('pump', { kind: 'password', passwordHash: await hashPassword('right') })
  const { check } = loginOf([stored])
  const timeOf = async (username: string) => {
    const startedAt = performance.now()
    expect(await check(username, `wrong ${startedAt}`)).toBe('unknown')
    return performance.now() - startedAt
  }
  const least = async (username: string) =>
    Math.min(await timeOf(username), await timeOf(username), await timeOf(username))
  let turns = 0
  const turning = setInterval(() => turns++, 1)
  const [known, unknown] = [await least('pump'), await least('nobody')]
  clearInterval(turning)
  expect(turns).toBeGreaterThan(20)
  expect(unknown / known).toBeGreaterThan(0.1)
  expect(unknown / known).toBeLessThan(10)
})

it('computes nothing where nobody has a password, or for texts that are too long', () => {
  expect(loginOf([]).login.check('pump', 'x')).toBe('unknown')
  expect(loginOf([passwordRow('pump', 'right')]).login.check('pump', 'x'.repeat(1025))).toBe('unknown')
})
