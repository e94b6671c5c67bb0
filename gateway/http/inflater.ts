import { gunzip } from 'node:zlib'

export type Inflated = Buffer | 'too_large' | 'malformed'

/** Inflates gzip bodies off the main thread, a few at a time: the threads are the process's only ones, and files and names need them too. */
export class Inflater {
  readonly #maxBytes: number
  readonly #concurrency: number
  #running = 0
  readonly #waiting: { body: Buffer; done: (inflated: Inflated) => void }[] = []

  /** @param maxBytes of what comes out: a bomb is stopped there, whatever it would grow to */
  constructor(maxBytes: number, concurrency: number) {
    this.#maxBytes = maxBytes
    this.#concurrency = concurrency
  }

  /** @param done is called later, never from within */
  inflate(body: Buffer, done: (inflated: Inflated) => void): void {
    if (this.#running >= this.#concurrency) this.#waiting.push({ body, done })
    else this.#run(body, done)
  }

  #run(body: Buffer, done: (inflated: Inflated) => void): void {
    this.#running++
    gunzip(body, { maxOutputLength: this.#maxBytes, chunkSize: outputChunkBytes }, (error, inflated) => {
      this.#running--
      const next = this.#waiting.shift()
      if (next !== undefined) this.#run(next.body, next.done)
      done(error === null ? inflated : isTooLarge(error) ? 'too_large' : 'malformed')
    })
  }
}

const outputChunkBytes = 32 * 1024

function isTooLarge(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ERR_BUFFER_TOO_LARGE'
}
