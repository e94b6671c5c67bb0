const polynomial = 0x82f63b78

/** Eight tables of 256: the checksum goes eight bytes a step (slicing-by-8), about four times as fast as a byte a step. */
const tables = makeTables()

function makeTables(): Uint32Array {
  const made = new Uint32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let value = byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1
    made[byte] = value
  }
  for (let at = 256; at < made.length; at++) {
    const before = made[at - 256] as number
    made[at] = (before >>> 8) ^ (made[before & 255] as number)
  }
  return made
}

/** CRC-32C (Castagnoli, RFC 3720 §B.4), which record batches carry; node:zlib has the other polynomial only. */
export function crc32c(bytes: Buffer, from: number, to: number): number {
  let crc = -1
  let at = from
  for (; at + 8 <= to; at += 8) {
    const low = crc ^ bytes.readInt32LE(at)
    const high = bytes.readInt32LE(at + 4)
    crc =
      entry(1792 + (low & 255)) ^
      entry(1536 + ((low >>> 8) & 255)) ^
      entry(1280 + ((low >>> 16) & 255)) ^
      entry(1024 + (low >>> 24)) ^
      entry(768 + (high & 255)) ^
      entry(512 + ((high >>> 8) & 255)) ^
      entry(256 + ((high >>> 16) & 255)) ^
      entry(high >>> 24)
  }
  for (; at < to; at++) crc = (crc >>> 8) ^ entry((crc ^ (bytes[at] as number)) & 255)
  return ~crc >>> 0
}

function entry(at: number): number {
  return tables[at] as number
}
