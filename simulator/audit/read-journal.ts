import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { BridgeError } from '#platform/errors.ts'
import type { JournalDevice, JournalHeader } from '../fleet/journal-file.ts'
import type { Scalar } from '../scenario/models.ts'

/** What a journal knows of a message. */
export interface JournaledMessage {
  readonly number: number
  /** Microseconds that it said; 0: none. */
  readonly timeUs: number
  /** Undefined: it cannot be decoded. */
  readonly values: readonly Scalar[] | undefined
  /** Of the bytes of a message that cannot be decoded. */
  readonly sha256: string | undefined
  /** Copies that were sent on purpose. */
  readonly copies: number
  resent: boolean
  accepted: number
  parked: number
  refused: number
}

export interface JournaledDevice {
  readonly id: string
  readonly tenant: string
  readonly metrics: readonly string[]
  readonly startedUs: number
  /** In the order in which they were sent first. */
  readonly messages: JournaledMessage[]
}

export interface Journal {
  readonly run: string
  readonly devices: readonly JournaledDevice[]
}

type Line = readonly [string, number, number, ...unknown[]]

/**
 * Reads journals of one run; a last line that was cut off, as a kill leaves it, is left out, since nothing was sent for it.
 * @throws BridgeError BRIDGE_USAGE that names file and line
 */
export async function readJournals(files: readonly string[]): Promise<Journal> {
  const devices: JournaledDevice[] = []
  let run = ''
  for (const file of files) {
    const read = await readOne(file)
    run = read.header.run
    devices.push(...read.devices.values())
  }
  return { run, devices }
}

async function readOne(file: string): Promise<{ header: JournalHeader; devices: Map<number, JournaledDevice> }> {
  const devices = new Map<number, JournaledDevice>()
  const byNumber = new Map<number, Map<number, JournaledMessage>>()
  let header: JournalHeader | undefined
  let count = 0
  let broken: number | undefined
  const stream = createReadStream(file, 'utf8')
  try {
    for await (const text of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      count++
      if (broken !== undefined) throw fault(file, broken)
      let line: unknown
      try {
        line = JSON.parse(text)
      } catch {
        broken = count
        continue
      }
      if (header === undefined) header = headerOf(line, file)
      else if (Array.isArray(line)) note(line as unknown as Line, byNumber, devices, file, count)
      else {
        const { device, id, metrics } = line as JournalDevice
        devices.set(device, { id, tenant: header.tenant, metrics, startedUs: header.startedUs, messages: [] })
        byNumber.set(device, new Map())
      }
    }
  } catch (error) {
    if (error instanceof BridgeError) throw error
    throw new BridgeError('BRIDGE_USAGE', `${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
  if (header === undefined) throw fault(file, 1)
  return { header, devices }
}

function headerOf(line: unknown, file: string): JournalHeader {
  const header = line as JournalHeader
  if (header?.journal === 1 && typeof header.run === 'string') return header
  throw fault(file, 1)
}

function note(
  [kind, device, number, ...more]: Line,
  byNumber: ReadonlyMap<number, Map<number, JournaledMessage>>,
  devices: ReadonlyMap<number, JournaledDevice>,
  file: string,
  line: number,
): void {
  const messages = byNumber.get(device)
  if (messages === undefined) throw fault(file, line)
  if (kind === 's' || kind === 'x') {
    const message: JournaledMessage = {
      number,
      timeUs: kind === 's' ? (more[0] as number) : 0,
      values: kind === 's' ? (more[2] as Scalar[]) : undefined,
      sha256: kind === 'x' ? (more[1] as string) : undefined,
      copies: (kind === 's' ? more[1] : more[0]) as number,
      resent: false,
      accepted: 0,
      parked: 0,
      refused: 0,
    }
    messages.set(number, message)
    devices.get(device)?.messages.push(message)
    return
  }
  const message = messages.get(number)
  if (message === undefined) throw fault(file, line)
  if (kind === 't') message.resent = true
  else if (kind === 'a') message.accepted++
  else if (kind === 'p') message.parked++
  else if (kind === 'r') message.refused++
  else throw fault(file, line)
}

function fault(file: string, line: number): BridgeError {
  return new BridgeError(
    'BRIDGE_USAGE',
    `${file} line ${line} is not of a journal: "fleetbridge simulate --journal FILE" writes one`,
  )
}
