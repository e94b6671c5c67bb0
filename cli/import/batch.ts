import type { FileRow } from './row-source.ts'
import type { Converted } from './to-reading.ts'

type Reading = Extract<Converted, { kind: 'reading' }>

/** One message: what one device has to say in a batch, or a part of it. */
export interface ImportMessage {
  readonly device: string
  readonly rows: readonly { readonly row: FileRow; readonly reading: Reading }[]
  readonly readings: number
}

/** Rows that follow each other in the file, and what is sent of them in one request. */
export interface ImportBatch {
  /** Rows of the file, the rejected and the empty ones too. */
  readonly rows: number
  readonly empty: number
  readonly rejected: readonly { readonly row: FileRow; readonly reason: string }[]
  readonly messages: readonly ImportMessage[]
}

export interface BatchBounds {
  readonly rows: number
  readonly bytes: number
  /** Rows of one message: what the gateway parks, it parks whole. */
  readonly messageRows: number
}

/** A gateway takes no more in one message. */
const messageReadings = 1000

/** Gathers rows until one of the bounds is reached. */
export class BatchBuilder {
  readonly #bounds: BatchBounds
  #rows = 0
  #empty = 0
  #bytes = 0
  #rejected: { row: FileRow; reason: string }[] = []
  #messages: ImportMessage[] = []
  /** The message of a device that still has room. */
  #open = new Map<string, { device: string; rows: { row: FileRow; reading: Reading }[]; readings: number }>()

  constructor(bounds: BatchBounds) {
    this.#bounds = bounds
  }

  get isFull(): boolean {
    return this.#rows >= this.#bounds.rows || this.#bytes >= this.#bounds.bytes
  }

  get isEmpty(): boolean {
    return this.#rows === 0
  }

  add(row: FileRow, converted: Converted): void {
    this.#rows++
    if (converted.kind === 'empty') this.#empty++
    else if (converted.kind === 'rejected') this.#rejected.push({ row, reason: converted.reason })
    else this.#send(row, converted)
  }

  take(): ImportBatch {
    const batch = { rows: this.#rows, empty: this.#empty, rejected: this.#rejected, messages: this.#messages }
    this.#rows = 0
    this.#empty = 0
    this.#bytes = 0
    this.#rejected = []
    this.#messages = []
    this.#open = new Map()
    return batch
  }

  #send(row: FileRow, reading: Reading): void {
    const { device, readings, json } = reading
    let message = this.#open.get(device)
    if (
      message === undefined ||
      message.rows.length >= this.#bounds.messageRows ||
      message.readings + readings > messageReadings
    ) {
      message = { device, rows: [], readings: 0 }
      this.#open.set(device, message)
      this.#messages.push(message)
      this.#bytes += device.length + 8
    }
    message.rows.push({ row, reading })
    message.readings += readings
    this.#bytes += json.length + 1
  }
}

/** `{ "device": [ … ], … }`: each array is a message of its own, a device may stand there more than once. */
export function bodyOf(messages: readonly ImportMessage[]): string {
  const members = messages.map(
    ({ device, rows }) => `${JSON.stringify(device)}:[${rows.map(({ reading }) => reading.json).join(',')}]`,
  )
  return `{${members.join(',')}}`
}
