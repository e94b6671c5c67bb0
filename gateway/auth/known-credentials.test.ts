import { expect, it } from 'vitest'
import { credentialRow, deviceRow, knownOf, sha256 } from './known.fixture.ts'

const now = () => Date.now()

it('finds tokens by their hash, and never takes the bytes of a certificate for a token', () => {
  const { known, feed } = knownOf()
  feed(
    true,
    [deviceRow('pump-1'), deviceRow('pump-2')],
    [
      credentialRow('pump-1', { secretHash: sha256('secret') }),
      credentialRow('pump-2', { kind: 'certificate', secretHash: sha256('public bytes') }),
    ],
  )
  expect(known.byToken('secret')?.device).toBe('pump-1')
  expect(known.byToken('Secret')).toBeUndefined()
  expect(known.byToken('public bytes')).toBeUndefined()
  expect(known.byCertificate(sha256('public bytes').toString('base64'))?.device).toBe('pump-2')
  expect(known.byCertificate(sha256('secret').toString('base64'))).toBeUndefined()
  expect(known.size).toBe(2)
})

it('tells listeners of what ends a session, and of nothing else', () => {
  const { known, changes, feed } = knownOf()
  const row = credentialRow('pump-1', { secretHash: sha256('a') })
  feed(true, [deviceRow('pump-1')], [row])
  const principal = known.byToken('a')
  expect(principal?.isLive(now())).toBe(true)
  changes.count = 0
  feed(false, [deviceRow('pump-1')], [row, credentialRow('pump-1', { secretHash: sha256('b') })])
  expect(changes.count, 'the same row again, and a new one').toBe(0)
  feed(false, [], [{ ...row, revoked: true }])
  expect([changes.count, principal?.isLive(now())]).toEqual([1, false])
  feed(false, [], [row])
  expect([changes.count, principal?.isLive(now())]).toEqual([2, true])
  feed(false, [], [{ ...row, expiresAtMs: now() - 1 }])
  expect([changes.count, principal?.isLive(now())]).toEqual([3, false])
  feed(false, [deviceRow('pump-1', { enabled: false })], [row])
  expect([changes.count, principal?.isLive(now())]).toEqual([4, false])
})

it('ends who was let in by a role that is another now', () => {
  const { known, feed } = knownOf()
  const row = credentialRow('gw-1', { secretHash: sha256('a'), fleet: true, pattern: 'site1-*' })
  feed(true, [deviceRow('gw-1')], [row])
  const before = known.byToken('a')
  expect([before?.allows('site1-x'), before?.allows('site2-x'), before?.allows('gw-1')]).toEqual([true, false, true])
  feed(false, [], [{ ...row, pattern: 'site2-*' }])
  const after = known.byToken('a')
  expect([before?.isLive(now()), after?.isLive(now())]).toEqual([false, true])
  expect([after?.allows('site1-x'), after?.allows('site2-x')]).toEqual([false, true])
  feed(false, [], [{ ...row, fleet: false, operator: true, pattern: null }])
  const operator = known.byToken('a')
  expect([after?.isLive(now()), operator?.operator, operator?.fleet]).toEqual([false, true, false])
  expect(operator?.allows('gw-1'), 'an operator publishes nothing').toBe(false)
})

it('forgets in a full read what has no row any more: credentials, passwords, devices', () => {
  const { known, changes, feed } = knownOf()
  const devices = [deviceRow('a'), deviceRow('b')]
  const rows = [
    credentialRow('a', { secretHash: sha256('a') }),
    credentialRow('a', { kind: 'password', passwordHash: 'x' }),
    credentialRow('b', { kind: 'certificate', secretHash: sha256('c') }),
  ]
  feed(true, devices, rows)
  const before = [
    known.byToken('a'),
    known.byCertificate(sha256('c').toString('base64')),
    ...(known.devices.find('default', 'a')?.passwords ?? []),
  ]
  expect(before.map((principal) => principal?.isLive(now()))).toEqual([true, true, true])
  changes.count = 0
  feed(true, devices, rows)
  expect([changes.count, known.size]).toEqual([0, 3])
  feed(true, [deviceRow('a')], [])
  expect([changes.count, known.size, known.hasPasswords]).toEqual([1, 0, false])
  expect(before.map((principal) => principal?.isLive(now()))).toEqual([false, false, false])
  expect(known.devices.find('default', 'b')).toBeUndefined()
  expect(known.byToken('a')).toBeUndefined()
})

it('keeps names that mean something in JavaScript, and tenants apart', () => {
  const { known, feed } = knownOf()
  const names = ['__proto__', 'constructor', 'toString', 'a/b', 'a@b']
  feed(
    true,
    names.flatMap((name) => [deviceRow(name), deviceRow(name, { tenant: 'acme' })]),
    names.map((name) => credentialRow(name, { secretHash: sha256(name), tenant: 'acme' })),
  )
  for (const name of names) {
    const principal = known.byToken(name)
    expect([principal?.tenant, principal?.device, principal?.isLive(now())]).toEqual(['acme', name, true])
    for (const username of [undefined, name, `${name}@acme`]) expect(principal?.owner.isNamed(username)).toBe(true)
    for (const username of ['', `${name}@`, `${name}@default`, `${name}@acme2`, `x${name}`, `${name}xacme`])
      expect(principal?.owner.isNamed(username), username).toBe(false)
  }
  expect(known.devices.find('__proto__', 'x')).toBeUndefined()
  expect(known.devices.find('other', '__proto__')).toBeUndefined()
})

it('finds devices by their aliases, whichever row is read first', () => {
  const { known, feed } = knownOf()
  const find = (name: string, tenant = 'default') => known.devices.aliasesOf(tenant)?.deviceOf(name)
  feed(true, [deviceRow('a'), deviceRow('b')])
  expect(known.devices.aliasesOf('default')).toBeUndefined()
  feed(false, [deviceRow('a', { aliases: ['x', '__proto__'] }), deviceRow('c', { tenant: 'acme', aliases: ['x'] })])
  expect([find('x'), find('__proto__'), find('constructor'), find('x', 'acme')]).toEqual(['a', 'a', undefined, 'c'])
  // From a to b; the row of b comes first.
  feed(false, [deviceRow('b', { aliases: ['x'] }), deviceRow('a', { aliases: ['y'] })])
  expect([find('x'), find('y'), find('__proto__')]).toEqual(['b', 'a', undefined])
  feed(false, [deviceRow('b'), deviceRow('a')])
  expect(known.devices.aliasesOf('default')).toBeUndefined()
  feed(false, [deviceRow('a', { aliases: ['x'] })])
  feed(true, [deviceRow('b')])
  expect(known.devices.aliasesOf('default'), 'its row is gone').toBeUndefined()
})
