import { expect, it } from 'vitest'
import type { DeadLetter } from './dead-letter.ts'
import { decodeDeadLetter, encodeDeadLetter, malformedRecord } from './dead-letter-record.ts'

const letter: DeadLetter = {
  id: '01a0c450-6c7b-7000-8000-000000000001',
  tenant: 'default',
  device: 'pump-1',
  source: 'mqtt',
  topic: 'devices/pümp-1/telemetry',
  contentType: 'application/cbor',
  stage: 'decode',
  code: 'bad_value',
  message: 'a reading is NaN',
  acknowledged: true,
  ingestTimeUs: 1_790_000_000_123_456,
  payload: Buffer.from([0, 0xff, 1]),
}

const bytesOf = (headers: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Buffer.from(value)]))

it('comes back as it was, its bytes as value and everything else in headers', () => {
  const { contentType: _, ...bare } = letter
  const context = { sender: 'gw-1', fleet: true, device: 'ä/b', messageKey: 'm-1' } as const
  for (const one of [letter, { ...bare, acknowledged: false, payload: null }, { ...letter, context }]) {
    const { key, value, headers, timestampMs } = encodeDeadLetter(one)
    expect([key, timestampMs]).toEqual(['default/pump-1', 1_790_000_000_123])
    expect(decodeDeadLetter(bytesOf(headers), value as Buffer | null)).toEqual(one)
  }
})

it.each([
  ['id', 'x'],
  ['source', 'amqp'],
  ['stage', 'route'],
  ['code', 'no_such_code'],
  ['ingest-time-us', 'now'],
])('refuses another %s', (name, value) => {
  const headers = bytesOf({ ...encodeDeadLetter(letter).headers, [name]: value })
  expect(decodeDeadLetter(headers, null)).toContain(`header ${name}`)
})

it('takes the first of repeated headers, and U+0000 out of texts', () => {
  const headers = { ...bytesOf(encodeDeadLetter(letter).headers), topic: [Buffer.from('a\0b'), Buffer.from('c')] }
  expect(decodeDeadLetter(headers, null)).toMatchObject({ topic: 'a\ufffdb' })
})

it.each(['{', '[]', 'null', '"text"'])('leaves out a context that is %s', (context) => {
  const { headers, value } = encodeDeadLetter(letter)
  expect(decodeDeadLetter(bytesOf({ ...headers, context }), value as Buffer)).toEqual(letter)
})

it('keeps a malformed record under the names in its key, with its bytes', () => {
  const record = {
    id: letter.id,
    value: Buffer.from('x'),
    timestampMs: 5,
    where: 't partition 1 offset 2',
    why: 'no JSON',
  }
  const parked = malformedRecord({ ...record, key: Buffer.from('acme/a/b') })
  expect(parked).toMatchObject({
    tenant: 'acme',
    device: 'a/b',
    code: 'malformed',
    acknowledged: true,
    ingestTimeUs: 5000,
  })
  expect(parked.message).toBe('t partition 1 offset 2: no JSON')
  expect(malformedRecord({ ...record, key: null })).toMatchObject({ tenant: '', device: '' })
  expect(malformedRecord({ ...record, key: Buffer.from('bare\0') })).toMatchObject({ tenant: '', device: 'bare\ufffd' })
})
