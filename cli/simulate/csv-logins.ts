import { readFileSync } from 'node:fs'
import { BridgeError } from '#platform/errors.ts'
import { readLogins } from '#simulator/logins.ts'
import type { DeviceLogin } from '#simulator/transport.ts'

/** @throws BridgeError BRIDGE_USAGE when the file cannot be read, or a line is not `device,token` */
export function csvLogins(file: string): DeviceLogin[] {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new BridgeError('BRIDGE_USAGE', `--csv ${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
  return readLogins(text)
}
