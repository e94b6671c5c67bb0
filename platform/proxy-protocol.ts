import { isIP } from 'node:net'

/** What a PROXY protocol header says, and how many bytes it has. Without a source the connection is the proxy's own, or of a kind without addresses. */
export interface ProxyHeader {
  readonly length: number
  readonly source: string | undefined
}

/** Of version 2 with its TLVs: far more than certificates and ids of load balancers need. */
const maxHeaderBytes = 4096
/** Version 1 with its CR LF (HAProxy's proxy-protocol.txt §2.1). */
const maxLineBytes = 107
const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const fixedBytes = 16

/**
 * Reads the header that a proxy puts before a connection's bytes, version 1 or 2 (HAProxy's proxy-protocol.txt, 2020/03/05).
 * @param bytes what has come so far
 * @returns `incomplete` until it has come whole; `invalid` for anything that is no header
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader | 'incomplete' | 'invalid' {
  if (bytes.length === 0) return 'incomplete'
  return bytes[0] === signature[0] ? readBinary(bytes) : readLine(bytes)
}

function readBinary(bytes: Buffer): ProxyHeader | 'incomplete' | 'invalid' {
  const known = Math.min(bytes.length, signature.length)
  if (bytes.compare(signature, 0, known, 0, known) !== 0) return 'invalid'
  if (bytes.length < fixedBytes) return 'incomplete'
  const [command, family] = [bytes[12] as number, bytes[13] as number]
  if (command !== 0x20 && command !== 0x21) return 'invalid' // version 2, LOCAL or PROXY
  const length = fixedBytes + bytes.readUInt16BE(14)
  if (length > maxHeaderBytes) return 'invalid'
  if (bytes.length < length) return 'incomplete'
  if (command === 0x20) return { length, source: undefined } // LOCAL: a health check of the proxy
  const addresses = bytes.subarray(fixedBytes, length)
  switch (family) {
    case 0x11:
      return addresses.length < 12 ? 'invalid' : { length, source: addresses.subarray(0, 4).join('.') }
    case 0x21:
      return addresses.length < 36 ? 'invalid' : { length, source: textOfV6(addresses) }
    case 0x00: // unspecified
    case 0x31: // Unix sockets have no address
      return { length, source: undefined }
    default:
      return 'invalid'
  }
}

function textOfV6(bytes: Buffer): string {
  const groups: string[] = []
  for (let at = 0; at < 16; at += 2) groups.push(bytes.readUInt16BE(at).toString(16))
  return plainAddress(groups.join(':')) ?? ''
}

function readLine(bytes: Buffer): ProxyHeader | 'incomplete' | 'invalid' {
  const start = 'PROXY '
  const known = Math.min(bytes.length, start.length)
  if (bytes.toString('latin1', 0, known) !== start.slice(0, known)) return 'invalid'
  const end = bytes.subarray(0, maxLineBytes).indexOf('\r\n')
  if (end < 0) return bytes.length >= maxLineBytes ? 'invalid' : 'incomplete'
  const length = end + 2
  const [, family, from = '', to = '', ...ports] = bytes.toString('latin1', 0, end).split(' ')
  if (family === 'UNKNOWN') return { length, source: undefined }
  if (ports.length !== 2 || !ports.every(isPort)) return 'invalid'
  const version = family === 'TCP4' ? 4 : family === 'TCP6' ? 6 : undefined
  if (version === undefined || isIP(from) !== version || isIP(to) !== version) return 'invalid'
  return { length, source: plainAddress(from) }
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535
}

/** IPv4 within IPv6 is the IPv4 address; other addresses are one spelling each. */
export function plainAddress(address: string | undefined): string | undefined {
  if (address === undefined || !address.includes(':')) return address
  const canonical = canonicalV6(address)
  const v4 = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical)
  if (v4 === null) return canonical
  const [high, low] = [Number.parseInt(v4[1] as string, 16), Number.parseInt(v4[2] as string, 16)]
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}

/** As URLs write it (RFC 5952); a zone is left out. */
function canonicalV6(address: string): string {
  const bare = address.split('%', 1)[0] as string
  return isIP(bare) === 6 ? new URL(`http://[${bare}]`).hostname.slice(1, -1) : bare
}
