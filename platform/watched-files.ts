import { stat } from 'node:fs/promises'
import type { Log } from './log.ts'

export interface WatchedFiles {
  /** Looks now. */
  check(): Promise<void>
  close(): void
}

export interface WatchOptions {
  readonly log: Log
  readonly pollMs?: number
  /** Waits until the files have stood still for a poll: a certificate and its key are written one after the other. */
  readonly standStill?: boolean
}

/**
 * Calls `reload` when one of the files changed. Asked by `stat`, not by inotify: secrets of Kubernetes are links that are swapped, and network
 * file systems tell nothing. When `reload` fails its caller keeps what it had; that is said once a change, not at every look.
 */
export async function watchFiles(
  paths: readonly string[],
  reload: () => Promise<void>,
  { log, pollMs = 2000, standStill = false }: WatchOptions,
): Promise<WatchedFiles> {
  let known = await stampsOf(paths)
  let before = known
  let looking: Promise<void> | undefined

  async function look(): Promise<void> {
    const stamps = await stampsOf(paths)
    const isSettled = !standStill || stamps === before
    before = stamps
    if (stamps === known || !isSettled) return
    known = stamps
    try {
      await reload()
      log.info({ files: paths }, 'files were read again')
    } catch (error) {
      log.error(
        { err: error, files: paths },
        'a changed file cannot be used; what was read before stays valid. Mend it.',
      )
    }
  }

  const check = () => {
    looking ??= look().finally(() => {
      looking = undefined
    })
    return looking
  }
  const timer = paths.length === 0 ? undefined : setInterval(() => void check(), pollMs).unref()
  return { check, close: () => clearInterval(timer) }
}

async function stampsOf(paths: readonly string[]): Promise<string> {
  const stamps = await Promise.all(
    paths.map((path) =>
      stat(path, { bigint: true }).then(
        ({ mtimeNs, ctimeNs, size, ino }) => `${mtimeNs} ${ctimeNs} ${size} ${ino}`,
        ({ code }: NodeJS.ErrnoException) => String(code),
      ),
    ),
  )
  return stamps.join('\n')
}
