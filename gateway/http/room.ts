/**
 * How much of all requests together may be in memory: their bodies, and for each request what Node and we keep beside it, so that
 * neither few large ones nor very many small ones can fill the process while the event log does not answer.
 */
export class Room {
  readonly #bytes: number
  #taken = 0

  constructor(bytes: number) {
    this.#bytes = bytes
  }

  get taken(): number {
    return this.#taken
  }

  has(bytes: number): boolean {
    return this.#taken + bytes <= this.#bytes
  }

  take(bytes: number): void {
    this.#taken += bytes
  }

  give(bytes: number): void {
    this.#taken -= bytes
  }
}
