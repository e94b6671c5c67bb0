/**
 * What counts as one address: an IPv4 address, also when it is written as IPv6, or the /64 network of an IPv6 address, since whoever has one
 * of its addresses has all of them (RFC 6177 §2).
 */
export function addressKey(address: string): string {
  if (!address.includes(':')) return address
  if (address.includes('.')) return address.slice(address.lastIndexOf(':') + 1)
  const [head = '', tail] = address.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const behind = tail === '' ? 0 : tail.split(':').length
    while (groups.length + behind < 8) groups.push('0')
  }
  return `${groups.slice(0, 4).join(':')}::/64`
}
