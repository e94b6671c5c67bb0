import { randomBytes, scrypt } from 'node:crypto'

const logCost = 15
const blockSize = 8
const parallel = 1

/**
 * Hashes a chosen password off the event loop (scrypt, RFC 7914, 32 MiB).
 * @returns `$scrypt$ln=15,r=8,p=1$<salt>$<hash>`, both base64 without padding
 */
export async function hashPassword(text: string): Promise<string> {
  const salt = randomBytes(16)
  const hash = await new Promise<Buffer>((resolve, reject) => {
    const cost = { N: 2 ** logCost, r: blockSize, p: parallel, maxmem: 64 * 1024 * 1024 }
    scrypt(text, salt, 32, cost, (error, key) => (error === null ? resolve(key) : reject(error)))
  })
  return `$scrypt$ln=${logCost},r=${blockSize},p=${parallel}$${unpadded(salt)}$${unpadded(hash)}`
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}
