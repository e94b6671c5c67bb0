import { type FileHandle, open } from 'node:fs/promises'
import { BridgeError } from '#platform/errors.ts'

/** Where lines go: a file, or standard output. */
export interface LineSink extends AsyncDisposable {
  /** Resolves when they are on their way: a crash of this process loses none of them. */
  write(lines: readonly string[]): Promise<void>
}

/**
 * A file that only its owner may read. One that is there is gone on with and never overwritten: it may hold tokens that are nowhere else.
 * @throws BridgeError BRIDGE_USAGE when it cannot be opened, or holds other columns
 */
export async function openPrivateFile(path: string, header: string): Promise<LineSink> {
  let file: FileHandle
  try {
    file = await open(path, 'a+', 0o600)
  } catch (error) {
    throw new BridgeError('BRIDGE_USAGE', `${path} cannot be written: ${(error as Error).message}`, { cause: error })
  }
  try {
    const stat = await file.stat()
    if (stat.isFile()) await file.chmod(0o600) // one that was there may be open to others
    if (stat.size === 0) await file.appendFile(`${header}\n`)
    else {
      const start = Buffer.alloc(Buffer.byteLength(header) + 1)
      await file.read(start, 0, start.length, 0)
      if (start.toString() !== `${header}\n`)
        throw new BridgeError('BRIDGE_USAGE', `${path} is there and does not begin with ${header}; name another file`)
    }
  } catch (error) {
    await file.close()
    throw error
  }
  return {
    async write(lines) {
      if (lines.length > 0) await file.appendFile(`${lines.join('\n')}\n`)
    },
    async [Symbol.asyncDispose]() {
      await file.sync().catch(() => undefined) // a pipe or /dev/stdout has nothing to sync
      await file.close()
    },
  }
}

/** Standard output, or standard error, as a sink. Its `write` rejects when whoever reads the pipe has gone. */
export function streamSink(stream: NodeJS.WriteStream): LineSink {
  const ignore = () => undefined // the write that failed says it
  stream.on('error', ignore)
  return {
    async write(lines) {
      if (lines.length === 0) return
      await new Promise<void>((resolve, reject) =>
        stream.write(`${lines.join('\n')}\n`, (error) => (error ? reject(error) : resolve())),
      )
    },
    async [Symbol.asyncDispose]() {
      stream.off('error', ignore)
    },
  }
}
