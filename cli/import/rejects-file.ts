import { type FileHandle, open, rm } from 'node:fs/promises'
import { BridgeError } from '#platform/errors.ts'
import { csvLine } from '../csv.ts'
import type { FileRow } from './row-source.ts'

/** Rows that did not become readings, as CSV with line and reason before their own columns: mended, it can be imported. */
export class RejectsFile {
  readonly #path: string
  readonly #columns: readonly string[]
  #file: FileHandle | undefined
  #bytes: number

  /** @param bytes of an interrupted import; what lies behind comes again */
  constructor(path: string, columns: readonly string[], bytes: number) {
    this.#path = path
    this.#columns = columns
    this.#bytes = bytes
  }

  get bytes(): number {
    return this.#bytes
  }

  async write(rows: readonly { readonly row: FileRow; readonly reason: string }[]): Promise<void> {
    if (rows.length === 0) return
    const file = this.#file ?? (await this.#open())
    this.#file = file
    const header = this.#bytes === 0 ? `${csvLine(['line', 'reason', ...this.#columns])}\n` : ''
    const lines = rows.map(({ row, reason }) => {
      const cells = this.#columns.map((column) => shown(row.cells?.get(column)))
      return `${csvLine([String(row.line), reason.replace(/\p{Cc}/gu, '?').slice(0, 500), ...cells])}\n`
    })
    const text = Buffer.from(header + lines.join(''))
    await file.write(text, 0, text.length, this.#bytes)
    await file.sync()
    this.#bytes += text.length
  }

  async close(): Promise<void> {
    await this.#file?.close()
    // Of an earlier import of this file, which had some.
    if (this.#bytes === 0) await rm(this.#path, { force: true })
  }

  async #open(): Promise<FileHandle> {
    try {
      const file = await open(this.#path, this.#bytes === 0 ? 'w' : 'r+', 0o600)
      await file.truncate(this.#bytes)
      return file
    } catch (error) {
      throw new BridgeError('BRIDGE_USAGE', `${this.#path} cannot be written: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }
}

function shown(cell: unknown): string | null {
  if (cell === undefined || cell === null) return null
  return typeof cell === 'string' ? cell : JSON.stringify(cell)
}
