/** Whole numbers, first in first out, in one ring: an array's `shift` copies the rest once it is long. */
export class Fifo {
  #ring = new Uint32Array(256)
  #head = 0
  #length = 0

  get length(): number {
    return this.#length
  }

  push(value: number): void {
    if (this.#length === this.#ring.length) this.#grow()
    this.#ring[(this.#head + this.#length++) % this.#ring.length] = value
  }

  shift(): number | undefined {
    if (this.#length === 0) return undefined
    const value = this.#ring[this.#head]
    this.#head = (this.#head + 1) % this.#ring.length
    this.#length--
    return value
  }

  #grow(): void {
    const larger = new Uint32Array(this.#ring.length * 2)
    for (let index = 0; index < this.#length; index++)
      larger[index] = this.#ring[(this.#head + index) % this.#ring.length] as number
    this.#ring = larger
    this.#head = 0
  }
}
