import { createHash } from 'node:crypto'
import { open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { BridgeError } from '#platform/errors.ts'

export interface ImportCounts {
  /** Of the file, that are settled: the place to go on from. */
  rows: number
  /** Acknowledged by the gateway: they are rows of `reading`, or were there before. */
  readings: number
  rejected: number
  /** Of these, those that the gateway holds as dead letters. */
  parked: number
  empty: number
}

/** What an import has done, beside its file; written only when the gateway has acknowledged it. */
export interface ImportState extends ImportCounts {
  readonly version: 1
  /** Tells the file from another of its name. */
  readonly file: string
  /** The flags that decide what a row is. */
  readonly mapping: string
  readonly startedAt: string
  /** Of the rejects file: what was written after it is of rows that come again. */
  rejectsBytes: number
  /** Of the fleet credential that was made for it. */
  credential: string | undefined
  firstUs: number
  lastUs: number
}

const headBytes = 65_536

/** Size and beginning of a file: an import does not go on in another. */
export async function fingerprintOf(file: string): Promise<string> {
  const handle = await open(file)
  try {
    const { size } = await handle.stat()
    const head = Buffer.alloc(Math.min(headBytes, size))
    await handle.read(head, 0, head.length, 0)
    return `${size}:${createHash('sha256').update(head).digest('hex').slice(0, 32)}`
  } finally {
    await handle.close()
  }
}

/** @returns undefined when there is none @throws BridgeError BRIDGE_USAGE when it is of another file or other flags */
export async function readState(
  path: string,
  wanted: Pick<ImportState, 'file' | 'mapping'>,
): Promise<ImportState | undefined> {
  let state: ImportState
  try {
    state = JSON.parse(await readFile(path, 'utf8')) as ImportState
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new BridgeError('BRIDGE_USAGE', `${path} cannot be read: ${(error as Error).message}. --restart begins anew.`)
  }
  if (state.version !== 1 || state.file !== wanted.file)
    throw new BridgeError('BRIDGE_USAGE', `${path} is of a file with other contents. --restart begins anew.`)
  if (state.mapping !== wanted.mapping)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `the import that ${path} tells of had other flags: ${state.mapping}. Give those, or begin anew with --restart.`,
    )
  // JSON has no infinity: nothing was sent yet.
  return {
    ...state,
    firstUs: state.firstUs ?? Number.POSITIVE_INFINITY,
    lastUs: state.lastUs ?? Number.NEGATIVE_INFINITY,
  }
}

/** Whole or not at all. */
export async function writeState(path: string, state: ImportState): Promise<void> {
  await writeFile(`${path}.tmp`, `${JSON.stringify(state)}\n`, { mode: 0o600 })
  await rename(`${path}.tmp`, path)
}

export async function forgetState(path: string): Promise<void> {
  await rm(path, { force: true })
}
