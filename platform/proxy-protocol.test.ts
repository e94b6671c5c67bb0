import { describe, expect, it } from 'vitest'
import { plainAddress, readProxyHeader } from './proxy-protocol.ts'

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')

function binary(command: number, family: number, addresses: Uint8Array, length = addresses.length): Buffer {
  return Buffer.concat([signature, Buffer.from([command, family, length >> 8, length & 255]), addresses])
}

const v4 = Buffer.from([203, 0, 113, 7, 10, 0, 0, 1, 0xc0, 0, 0x07, 0x5b])
const v6 = Buffer.concat([
  Buffer.from('20010db8000000000000000000000042', 'hex'),
  Buffer.from('20010db8000000000000000000000001', 'hex'),
  Buffer.from([0xc0, 0, 0x07, 0x5b]),
])

describe('version 1', () => {
  it.each([
    ['PROXY TCP4 203.0.113.7 10.0.0.1 49152 1883\r\n', '203.0.113.7'],
    ['PROXY TCP6 2001:db8::42 2001:DB8:0::1 49152 1883\r\n', '2001:db8::42'],
    ['PROXY TCP6 2001:0DB8:0:0::0042 ::1 0 65535\r\n', '2001:db8::42'],
    ['PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n', '203.0.113.7'],
    ['PROXY UNKNOWN\r\n', undefined],
    ['PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n', undefined],
  ])('%j', (line, source) => {
    const length = line.length
    expect(readProxyHeader(Buffer.from(`${line}\x10\x0c`))).toEqual({ length, source })
    for (let end = 0; end < length; end++) expect(readProxyHeader(Buffer.from(line.slice(0, end)))).toBe('incomplete')
  })

  it.each([
    'GET / HTTP/1.1\r\n',
    'PROXY\r\n',
    'proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n',
    'PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n',
    'PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n',
    'PROXY TCP4 ::1 ::2 1 2\r\n',
    'PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n',
    'PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n',
    `PROXY UNKNOWN ${'x'.repeat(200)}`,
    `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`,
  ])('%j is none', (line) => {
    expect(readProxyHeader(Buffer.from(line))).toBe('invalid')
  })
})

describe('version 2', () => {
  it.each([
    ['IPv4', binary(0x21, 0x11, v4), '203.0.113.7'],
    ['IPv4 with TLVs', binary(0x21, 0x11, Buffer.concat([v4, Buffer.from([4, 0, 2, 9, 9])])), '203.0.113.7'],
    ['IPv6', binary(0x21, 0x21, v6), '2001:db8::42'],
    ['LOCAL', binary(0x20, 0x00, Buffer.alloc(0)), undefined],
    ['LOCAL with what is to be skipped', binary(0x20, 0x11, v4), undefined],
    ['unspecified', binary(0x21, 0x00, Buffer.alloc(3)), undefined],
    ['Unix', binary(0x21, 0x31, Buffer.alloc(216)), undefined],
  ])('%s', (_name, header, source) => {
    expect(readProxyHeader(Buffer.concat([header, Buffer.from('\x10\x0c')]))).toEqual({ length: header.length, source })
    for (let end = 0; end < header.length; end++) expect(readProxyHeader(header.subarray(0, end))).toBe('incomplete')
  })

  it.each([
    ['version 1 in it', binary(0x11, 0x11, v4)],
    ['an unknown command', binary(0x22, 0x11, v4)],
    ['UDP', binary(0x21, 0x12, v4)],
    ['an address that is cut off', binary(0x21, 0x11, v4.subarray(0, 11))],
    ['an IPv6 address that is cut off', binary(0x21, 0x21, v6.subarray(0, 35))],
    ['a length beyond all use', binary(0x21, 0x11, v4, 65_535)],
    ['another signature', Buffer.from('\r\n\r\n\0\r\nQUIX\n!!!!', 'latin1')],
  ])('%s is none', (_name, header) => {
    expect(readProxyHeader(header)).toBe('invalid')
  })
})

it('never fails and never takes more than has come, whatever the bytes', () => {
  const seed = Date.now() % 2 ** 31
  let state = seed
  const below = (limit: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % limit
  }
  const starts = [Buffer.from('PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n'), binary(0x21, 0x11, v4), binary(0x21, 0x21, v6)]
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(starts[below(starts.length)] as Buffer)
    for (let faults = below(4); faults >= 0; faults--) bytes[below(bytes.length)] = below(256)
    const cut = bytes.subarray(0, below(bytes.length + 1))
    const header = readProxyHeader(cut)
    if (typeof header !== 'string') expect(header.length, `seed ${seed}`).toBeLessThanOrEqual(cut.length)
  }
})

it.each([
  ['::ffff:10.0.0.1', '10.0.0.1'],
  ['::FFFF:a00:1', '10.0.0.1'],
  ['10.0.0.1', '10.0.0.1'],
  ['fe80::1%eth0', 'fe80::1'],
  ['0:0:0:0:0:0:0:1', '::1'],
  [undefined, undefined],
])('%s is %s', (address, plain) => {
  expect(plainAddress(address)).toBe(plain)
})
