import { describe, expect, it } from 'vitest'
import { type FrameFault, Framer, variableByteInteger } from './frame.ts'
import { seeded } from './testing/seeded.ts'

/** Keeps the packets it gets, and refuses when told to. */
class Sink {
  readonly packets: string[] = []
  readonly faults: FrameFault[] = []
  refuse: () => boolean = () => false

  onFrame(bytes: Buffer, start: number, body: number, end: number): boolean {
    if (this.refuse()) return false
    expect(bytes.subarray(start + 1, body)).toEqual(Buffer.from(variableByteInteger(end - body)))
    this.packets.push(bytes.toString('hex', start, end))
    return true
  }

  onFrameFault(fault: FrameFault): void {
    this.faults.push(fault)
  }
}

function packetOf(length: number, fill: number): Buffer {
  return Buffer.concat([Buffer.from([0x30, ...variableByteInteger(length)]), Buffer.alloc(length, fill)])
}

describe('Framer', () => {
  it('finds the same packets however the stream is cut, and whatever is refused in between', () => {
    const seed = Date.now() % 1_000_000
    console.info(`framer: seed ${seed}`)
    const random = seeded(seed)
    for (let round = 0; round < 300; round++) {
      const lengths = Array.from({ length: 1 + random(12) }, () =>
        random(8) === 0 ? ([127, 128, 16_383, 16_384][random(4)] as number) : random(300),
      )
      const packets = lengths.map((length, index) => packetOf(length, index))
      const stream = Buffer.concat(packets)
      const sink = new Sink()
      const refuses = random(2) === 0
      sink.refuse = () => refuses && random(4) === 0
      const framer = new Framer(sink, 100_000)
      for (let at = 0; at < stream.length; ) {
        const size = random(3) === 0 ? 1 + random(4) : 1 + random(5000)
        framer.push(Buffer.from(stream.subarray(at, at + size)))
        at += size
        if (random(3) === 0) framer.resume()
      }
      for (let tries = 0; tries < 200; tries++) framer.resume()
      expect(sink.faults, `seed ${seed}, round ${round}`).toEqual([])
      expect(sink.packets, `seed ${seed}, round ${round}`).toEqual(packets.map((packet) => packet.toString('hex')))
    }
  })

  it('takes a packet of the largest size and none that is larger, before its bytes have come', () => {
    const sink = new Sink()
    new Framer(sink, 130 + 1).push(packetOf(128, 1))
    expect(sink.packets).toHaveLength(1)
    new Framer(sink, 130).push(Buffer.from([0x30, ...variableByteInteger(128)]))
    expect(sink.faults).toEqual(['too_large'])
    const bytewise = new Framer(sink, 130)
    for (const byte of [0x30, ...variableByteInteger(128)]) bytewise.push(Buffer.from([byte]))
    expect(sink.faults).toEqual(['too_large', 'too_large'])
  })

  it.each([
    ['five length bytes', [0x30, 0x80, 0x80, 0x80, 0x80]],
    ['a length with a byte too many', [0x30, 0x85, 0x00]],
  ])('%s are malformed', (_what, bytes) => {
    const sink = new Sink()
    const framer = new Framer(sink, 1000)
    framer.push(Buffer.from(bytes))
    framer.push(packetOf(3, 0))
    expect(sink).toMatchObject({ faults: ['malformed'], packets: [] })
  })

  it('holds no memory for a length that was only announced', () => {
    const before = process.memoryUsage().arrayBuffers
    const framers = Array.from({ length: 200 }, () => new Framer(new Sink(), 268_435_455))
    for (const framer of framers) framer.push(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f, 1]))
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10_000_000)
  })
})
