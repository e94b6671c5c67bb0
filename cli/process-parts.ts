import { writeSync } from 'node:fs'
import type { Log } from '#platform/log.ts'

/** One press of Ctrl-C may arrive twice: from the terminal and from npm, which passes on what it got. */
const samePressMs = 500

/**
 * The parts of a long-running process, closed in reverse at SIGINT or SIGTERM, or when a start fails half-way.
 * Past `shutdownMs`, and at a second Ctrl-C, the process ends at once; what is durable stays so.
 */
export class ProcessParts {
  readonly #parts: { readonly name: string; readonly close: () => Promise<void> }[] = []
  readonly #log: Log
  readonly #shutdownMs: number
  #stopping: Promise<void> | undefined
  #signalledAt = 0
  #onHangUp: (() => Promise<void>) | undefined
  #started: () => void = () => undefined
  readonly #whenStarted = new Promise<void>((resolve) => {
    this.#started = resolve
  })

  constructor(log: Log, shutdownMs: number) {
    this.#log = log
    this.#shutdownMs = shutdownMs
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => this.#onSignal(signal))
    for (const event of ['uncaughtException', 'unhandledRejection'] as const)
      process.on(event, (error: unknown) => {
        log.fatal({ err: error }, 'an error that nobody handles: the process stops')
        process.exitCode = 1
        void this.#stop('an error')
      })
  }

  /** Opens a part; it is closed before those that were opened earlier. */
  add<Part extends { close(): Promise<void> }>(name: string, part: Part): Part {
    this.#parts.push({ name, close: () => part.close() })
    return part
  }

  /**
   * What SIGHUP means to a service: read your files again. On a terminal it means that the terminal is gone, and ends the process like any
   * other signal.
   */
  onHangUp(work: () => Promise<void>): void {
    if (!process.stdin.isTTY) this.#onHangUp = work
  }

  /** Everything runs: from here a signal stops it. Before, it waits for the step that is under way. */
  started(): void {
    this.#started()
  }

  /** After a failed start. */
  async closeAll(): Promise<void> {
    this.#started()
    while (this.#parts.length > 0) await this.#closeLast()
  }

  #onSignal(signal: NodeJS.Signals): void {
    if (signal === 'SIGHUP' && this.#onHangUp !== undefined) {
      void this.#onHangUp()
      return
    }
    const now = Date.now()
    if (this.#signalledAt === 0) {
      this.#signalledAt = now
      void this.#stop(signal)
    } else if (signal === 'SIGINT' && now - this.#signalledAt > samePressMs) {
      say(`stopped at once; still open: ${this.#open()}`)
      process.exit(130)
    }
  }

  #stop(why: string): Promise<void> {
    this.#stopping ??= this.#closeAndExit(why)
    return this.#stopping
  }

  async #closeAndExit(why: string): Promise<void> {
    this.#log.info({ why }, 'stopping: finishing what is in hand (Ctrl-C again to stop at once)')
    setTimeout(() => {
      this.#log.error({ open: this.#open(), shutdownMs: this.#shutdownMs }, 'not closed in time')
      say(`not closed within ${this.#shutdownMs} ms (BRIDGE_SHUTDOWN_MS), still open: ${this.#open()}`)
      process.exit(1)
    }, this.#shutdownMs).unref()
    await this.#whenStarted
    while (this.#parts.length > 0) await this.#closeLast()
    this.#log.info('stopped')
    process.exit()
  }

  async #closeLast(): Promise<void> {
    const part = this.#parts.at(-1)
    try {
      await part?.close()
    } catch (error) {
      process.exitCode = 1
      this.#log.error({ err: error, part: part?.name }, 'a part did not close well')
    }
    this.#parts.pop()
  }

  #open(): string {
    return this.#parts.map(({ name }) => name).join(', ') || 'nothing (starting)'
  }
}

/** Not through the log, which may be what hangs, and whose buffer an exit may cut off. */
function say(text: string): void {
  writeSync(2, `${text}\n`)
}
