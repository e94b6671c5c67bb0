const terminalMs = 200
const plainMs = 10_000
const barWidth = 24

/** How far: a bar that is written over on a terminal, elsewhere a line in ten seconds. On standard error. */
export class Progress {
  readonly #isTerminal = process.stderr.isTTY === true
  readonly #startMs = performance.now()
  readonly #rowsBefore: number
  readonly #fractionBefore: number
  #shownMs = this.#startMs

  /** @param before rows and part of the file that an earlier run did */
  constructor(before: { readonly rows: number; readonly fraction: number } = { rows: 0, fraction: 0 }) {
    this.#rowsBefore = before.rows
    this.#fractionBefore = before.fraction
  }

  /** @param fraction of the file, 0 to 1 */
  step(verb: string, rows: number, fraction: number, more = ''): void {
    const now = performance.now()
    if (now - this.#shownMs < (this.#isTerminal ? terminalMs : plainMs)) return
    this.#shownMs = now
    const seconds = (now - this.#startMs) / 1000
    const perSecond = Math.round((rows - this.#rowsBefore) / seconds)
    const done = fraction - this.#fractionBefore
    const left = done > 0.001 ? `, ${durationText(((1 - fraction) / done) * seconds)} left` : ''
    const text = `${verb} ${rows} rows, ${Math.floor(fraction * 100)} %, ${perSecond} rows/s${left}${more}`
    if (!this.#isTerminal) process.stderr.write(`${text}\n`)
    else {
      const full = Math.min(barWidth, Math.round(fraction * barWidth))
      process.stderr.write(`\r\u001b[K[${'#'.repeat(full)}${'.'.repeat(barWidth - full)}] ${text}`)
    }
  }

  end(): void {
    if (this.#isTerminal) process.stderr.write('\r\u001b[K')
  }
}

function durationText(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`
  if (seconds < 5400) return `${Math.ceil(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}
