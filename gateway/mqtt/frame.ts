/** Who gets the packets that a Framer has cut out of a byte stream. */
export interface FrameSink {
  /**
   * One whole packet: bytes[start] is its type and flags, its variable header begins at `body`, and it ends before `end`.
   * @returns false when the packet can't be taken now: it is offered again by `resume()`
   */
  onFrame(bytes: Buffer, start: number, body: number, end: number): boolean
  /** The stream cannot be read any further; nothing else will come. */
  onFrameFault(fault: FrameFault): void
}

/** A remaining length that is none; a packet over the bound. */
export type FrameFault = 'malformed' | 'too_large'

const firstCapacity = 1024

/** Cuts a byte stream into MQTT packets (MQTT 5.0 §2.1.4). What is whole inside a chunk is handed on in place, without a copy. */
export class Framer {
  /** Largest packet in bytes, its fixed header included. */
  maxBytes: number
  readonly #sink: FrameSink
  /** The beginning of a packet whose end has not come; grows with what came, so an announced length alone costs no memory. */
  #partial: Buffer | undefined
  #filled = 0
  /** Bytes that wait for `resume()`, the first of them a refused packet. */
  #waiting: Buffer | undefined
  #stopped = false

  constructor(sink: FrameSink, maxBytes: number) {
    this.#sink = sink
    this.maxBytes = maxBytes
  }

  push(chunk: Buffer): void {
    if (this.#stopped) return
    if (this.#waiting !== undefined) this.#waiting = Buffer.concat([this.#waiting, chunk])
    else this.#run(this.#partial === undefined ? chunk : this.#completed(chunk))
  }

  /** Offers the refused packet again, and then what came behind it. */
  resume(): void {
    const waiting = this.#waiting
    if (waiting === undefined || this.#stopped) return
    this.#waiting = undefined
    this.#run(waiting)
  }

  /** Nothing is handed on any more. */
  stop(): void {
    this.#stopped = true
    this.#partial = undefined
    this.#waiting = undefined
  }

  #run(bytes: Buffer | undefined): void {
    if (bytes === undefined) return
    let offset = 0
    while (offset < bytes.length) {
      const size = packetSize(bytes, offset, bytes.length)
      const fault = this.#faultOf(size)
      if (fault !== undefined) {
        this.#fail(fault)
        return
      }
      const end = offset + size
      if (size === 0 || end > bytes.length) {
        this.#keep(bytes, offset)
        return
      }
      if (!this.#sink.onFrame(bytes, offset, offset + headerSize(size), end)) {
        this.#waiting = offset === 0 ? bytes : bytes.subarray(offset)
        return
      }
      if (this.#stopped) return
      offset = end
    }
  }

  #keep(bytes: Buffer, offset: number): void {
    this.#partial = Buffer.allocUnsafeSlow(Math.max(firstCapacity, bytes.length - offset))
    this.#filled = bytes.copy(this.#partial, 0, offset)
  }

  /** Adds to the packet that was begun. @returns the whole packet with all that came behind it, or undefined while its end is missing */
  #completed(chunk: Buffer): Buffer | undefined {
    let taken = 0
    for (;;) {
      const partial = this.#partial as Buffer
      const size = packetSize(partial, 0, this.#filled)
      const fault = this.#faultOf(size)
      if (fault !== undefined) {
        this.#fail(fault)
        return undefined
      }
      if (size > 0 && this.#filled === size) {
        this.#partial = undefined
        const packet = partial.subarray(0, size)
        if (taken === chunk.length) return packet
        // Copied once more, so that a refused packet and what follows it wait as one.
        return Buffer.concat([packet, chunk.subarray(taken)])
      }
      if (taken === chunk.length) return undefined
      // Without its length byte by byte: what follows may belong to the next packet.
      const wanted = size === 0 ? 1 : Math.min(size - this.#filled, chunk.length - taken)
      this.#add(chunk.subarray(taken, taken + wanted), size)
      taken += wanted
    }
  }

  #add(bytes: Buffer, size: number): void {
    let partial = this.#partial as Buffer
    const needed = this.#filled + bytes.length
    if (needed > partial.length) {
      const capacity = Math.min(Math.max(needed, partial.length * 2), Math.max(size, needed))
      const larger = Buffer.allocUnsafeSlow(capacity)
      partial.copy(larger, 0, 0, this.#filled)
      this.#partial = partial = larger
    }
    bytes.copy(partial, this.#filled)
    this.#filled = needed
  }

  #faultOf(size: number): FrameFault | undefined {
    if (size < 0) return 'malformed'
    return size > this.maxBytes ? 'too_large' : undefined
  }

  #fail(fault: FrameFault): void {
    this.stop()
    this.#sink.onFrameFault(fault)
  }
}

/** As a remaining length is written (MQTT 5.0 §1.5.5). */
export function variableByteInteger(value: number): number[] {
  const bytes: number[] = []
  let left = value
  for (; left > 0x7f; left >>= 7) bytes.push((left & 0x7f) | 0x80)
  bytes.push(left)
  return bytes
}

/**
 * @returns bytes of the packet that begins at `offset`; 0 when its length isn't there yet, -1 when that has more than four bytes, or more
 * than it needs (MQTT 5.0 §1.5.5)
 */
function packetSize(bytes: Buffer, offset: number, end: number): number {
  let length = 0
  for (let count = 1; count <= 4; count++) {
    if (offset + count >= end) return 0
    const byte = bytes[offset + count] as number
    length |= (byte & 0x7f) << (7 * (count - 1))
    if (byte < 0x80) return byte === 0 && count > 1 ? -1 : 1 + count + length
  }
  return -1
}

/** Bytes before the variable header of a packet of this size. */
function headerSize(size: number): number {
  if (size < 2 + 0x80) return 2
  if (size < 3 + 0x4000) return 3
  return size < 4 + 0x20_0000 ? 4 : 5
}
