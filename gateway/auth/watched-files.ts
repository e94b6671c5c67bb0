import { stat } from 'node:fs/promises'
import type { Log } from '#platform/log.ts'

export interface WatchedFiles {
  /** Looks now. */
  check(): Promise<void>
  close(): void
}

const lookEveryMs = 2000

/**
 * Calls `reload` when one of the files changed. Asked by `stat`, not by inotify: secrets of Kubernetes are links that are swapped, and network
 * file systems tell nothing. When `reload` fails its caller keeps what it had; that is said once a change, not every two seconds.
 */
export async function watchFiles(
  paths: readonly string[],
  reload: () => Promise<void>,
  log: Log,
): Promise<WatchedFiles> {
  let known = await stampsOf(paths)
  let looking: Promise<void> | undefined

  async function look(): Promise<void> {
    const stamps = await stampsOf(paths)
    if (stamps === known) return
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
  const timer = paths.length === 0 ? undefined : setInterval(() => void check(), lookEveryMs).unref()
  return { check, close: () => clearInterval(timer) }
}

async function stampsOf(paths: readonly string[]): Promise<string> {
  const stamps = await Promise.all(
    paths.map((path) =>
      stat(path, { bigint: true }).then(
        ({ mtimeNs, size, ino }) => `${mtimeNs} ${size} ${ino}`,
        () => 'absent',
      ),
    ),
  )
  return stamps.join('\n')
}
