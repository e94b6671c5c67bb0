import { closeSync, openSync, writeSync } from 'node:fs'
import type { Message } from './message.ts'

/** What the first line of a journal says. */
export interface JournalHeader {
  readonly journal: 1
  readonly run: string
  readonly scenario: string
  readonly seed: number
  readonly tenant: string
  /** Microseconds since the epoch: rows that came before are of others. */
  readonly startedUs: number
}

export interface JournalDevice {
  readonly device: number
  readonly id: string
  /** Names as they are stored; the first carries the message's number. */
  readonly metrics: readonly string[]
}

/**
 * One JSON array a line, the letter first. A message is written before it is sent, so a simulator that is killed has sent nothing that
 * its journal does not know:
 * `["s", device, number, timeUs, copies, [values]]` sent for the first time, `["x", device, number, copies, sha256]` sent, and cannot be decoded,
 * `["t", device, number]` sent again, and of each copy: `["a", device, number]` acknowledged, `["p", device, number]` parked, and said so,
 * `["r", device, number, code]` refused for good.
 */
export class JournalFile {
  readonly #descriptor: number
  #text = ''

  /** The file must not be there yet. */
  constructor(path: string, header: JournalHeader, devices: readonly JournalDevice[]) {
    this.#descriptor = openSync(path, 'wx', 0o600)
    this.#text = [header, ...devices].map((line) => `${JSON.stringify(line)}\n`).join('')
    this.flush()
  }

  sending({ device, number, timeUs, copies, values, sends }: Message, sha256: string): void {
    if (sends > 0) this.#text += `["t",${device},${number}]\n`
    else if (values === undefined) this.#text += `["x",${device},${number},${copies},"${sha256}"]\n`
    else this.#text += `["s",${device},${number},${timeUs},${copies},${JSON.stringify(values)}]\n`
  }

  accepted({ device, number }: Message): void {
    this.#text += `["a",${device},${number}]\n`
  }

  parked({ device, number }: Message): void {
    this.#text += `["p",${device},${number}]\n`
  }

  refused({ device, number }: Message, code: string): void {
    this.#text += `["r",${device},${number},${JSON.stringify(code)}]\n`
  }

  /** Hands all lines to the system: what was flushed is there when this process is killed. */
  flush(): void {
    if (this.#text === '') return
    const bytes = Buffer.from(this.#text)
    this.#text = ''
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#descriptor, bytes, at)
  }

  close(): void {
    this.flush()
    closeSync(this.#descriptor)
  }
}
