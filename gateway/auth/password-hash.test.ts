import { scryptSync } from 'node:crypto'
import { expect, it } from 'vitest'
import { hashPassword, isPasswordHash, verifyPassword } from './password-hash.ts'

it('hashes in PHC form, with a salt of its own each time, and knows the password again', async () => {
  const [first, second] = await Promise.all([hashPassword('änderung 7'), hashPassword('änderung 7')])
  expect(first).toMatch(/^\$scrypt\$ln=15,r=8,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
  expect(second).not.toBe(first)
  expect(await verifyPassword('änderung 7', first)).toBe(true)
  expect(await verifyPassword('anderung 7', first)).toBe(false)
  expect(await verifyPassword('', first)).toBe(false)
})

it('verifies a hash that somebody else made, with other costs', async () => {
  const salt = Buffer.from('0123456789abcdef')
  const hash = scryptSync('pencil', salt, 64, { N: 1024, r: 4, p: 2 })
  const stored = `$scrypt$ln=10,r=4,p=2$${bare(salt)}$${bare(hash)}`
  expect(await verifyPassword('pencil', stored)).toBe(true)
  expect(await verifyPassword('Pencil', stored)).toBe(false)
})

it.each([
  '',
  'pencil',
  '$scrypt$ln=15,r=8,p=1$c2FsdHNhbHRzYWx0$',
  '$scrypt$ln=30,r=8,p=1$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdHNhbHQ',
  '$scrypt$ln=10,r=8,p=99$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdHNhbHQ',
  '$scrypt$ln=10,r=0,p=1$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdHNhbHQ',
  '$argon2id$v=19$m=65536,t=2,p=1$c2FsdA$c2FsdA',
])('refuses %j, which is no hash or asks for too much', async (stored) => {
  expect(isPasswordHash(stored)).toBe(false)
  expect(await verifyPassword('pencil', stored)).toBe(false)
})

it('takes 1 to 1,024 bytes', async () => {
  await expect(hashPassword('')).rejects.toThrow('1 to 1024 bytes')
  await expect(hashPassword('é'.repeat(513))).rejects.toThrow('1 to 1024 bytes')
  expect(await verifyPassword('x'.repeat(1025), await hashPassword('x'))).toBe(false)
})

function bare(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('=', '')
}
