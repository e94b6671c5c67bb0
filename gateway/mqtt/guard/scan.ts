import { reasonCode } from '../packet-types.ts'
import { faultOfText } from './text.ts'

/**
 * Walks over the fields of one packet. The first thing that is wrong stays in `fault`; from there on nothing is left to read, so that loops
 * end and callers need to look only once.
 */
export class Scan {
  fault = 0
  at: number
  /** The walk ends here. */
  end: number
  readonly bytes: Buffer

  constructor(bytes: Buffer, at: number, end: number) {
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  get isAtEnd(): boolean {
    return this.at >= this.end
  }

  fail(code: number): void {
    if (this.fault === 0) this.fault = code
    this.at = this.end
  }

  byte(): number {
    return this.#has(1) ? (this.bytes[this.at++] as number) : 0
  }

  uint16(): number {
    if (!this.#has(2)) return 0
    const value = this.bytes.readUInt16BE(this.at)
    this.at += 2
    return value
  }

  uint32(): number {
    if (!this.#has(4)) return 0
    const value = this.bytes.readUInt32BE(this.at)
    this.at += 4
    return value
  }

  /** At most four bytes, and no more than the value needs [MQTT-1.5.5-1]. */
  variableByteInteger(): number {
    let value = 0
    for (let index = 0; index < 4; index++) {
      const byte = this.byte()
      if (this.fault !== 0) return 0
      value |= (byte & 0x7f) << (7 * index)
      if (byte >= 0x80) continue
      if (byte === 0 && index > 0) break
      return value
    }
    this.fail(reasonCode.malformed)
    return 0
  }

  /** Two bytes of length and as many bytes as they say (MQTT 5.0 §1.5.6). @returns the length */
  binary(): number {
    const length = this.uint16()
    if (!this.#has(length)) return 0
    this.at += length
    return length
  }

  /** A UTF-8 encoded string (§1.5.4). @returns its length in bytes */
  text(): number {
    const length = this.binary()
    const fault = this.fault === 0 ? faultOfText(this.bytes, this.at - length, this.at) : 0
    if (fault !== 0) this.fail(fault)
    return length
  }

  /** A packet identifier is never 0 [MQTT-2.2.1-3], in 3.1.1 [MQTT-2.3.1-1]. */
  packetId(): void {
    if (this.uint16() === 0) this.fail(reasonCode.protocolError)
  }

  /** Nothing may stand behind the last field: the remaining length counts fields, not what comes after them (§2.1.4). */
  finish(): number {
    if (!this.isAtEnd) this.fail(reasonCode.malformed)
    return this.fault
  }

  #has(count: number): boolean {
    if (this.fault === 0 && this.at + count <= this.end) return true
    this.fail(reasonCode.malformed)
    return false
  }
}
