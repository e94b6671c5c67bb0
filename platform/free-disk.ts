import { statfsSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { BridgeError } from './errors.ts'
import { type Handle, handleOf } from './handle.ts'
import type { Log } from './log.ts'

/** Megabytes that an unprivileged process may still write below this path. */
export async function freeDiskMb(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path)
  return Math.floor((bavail * bsize) / 1024 ** 2)
}

export interface DiskGuard extends Handle {
  /** False while there is less room than the least: nothing may be taken then, or Postgres itself stops in the middle. */
  mayTake(): boolean
  freeMb(): number
}

/**
 * Looks at the free space now and every second.
 * @throws BridgeError BRIDGE_DISK_FULL when there is too little at the start
 */
export async function startDiskGuard(path: string, minFreeMb: number, log: Log): Promise<DiskGuard> {
  let free = await freeDiskMb(path)
  if (free < minFreeMb) throw diskFull(path, free, minFreeMb)
  const timer = setInterval(() => {
    const before = free
    try {
      const { bavail, bsize } = statfsSync(path)
      free = Math.floor((bavail * bsize) / 1024 ** 2)
    } catch (error) {
      log.warn({ err: error, path }, 'the free disk space cannot be read')
      return
    }
    if (free < minFreeMb && before >= minFreeMb)
      log.error(
        { code: 'BRIDGE_DISK_FULL', path, freeMb: free, minFreeMb },
        'the disk is nearly full: nothing is taken any more until there is room again',
      )
    else if (free >= minFreeMb && before < minFreeMb)
      log.info({ path, freeMb: free }, 'there is room on the disk again')
  }, 1000)
  timer.unref()
  return {
    ...handleOf(async () => clearInterval(timer)),
    mayTake: () => free >= minFreeMb,
    freeMb: () => free,
  }
}

function diskFull(path: string, free: number, least: number): BridgeError {
  return new BridgeError(
    'BRIDGE_DISK_FULL',
    `${free} MB are free at ${path}, and ${least} MB must be: Postgres cannot commit on a full disk. ` +
      'Make room, move the data with BRIDGE_DATA_DIR, or lower BRIDGE_POSTGRES_MIN_FREE_DISK_MB.',
    { details: { freeMb: free, minFreeMb: least } },
  )
}
