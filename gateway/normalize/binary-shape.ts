import { DecodeError } from './decode-error.ts'
import { maxDepth } from './json.ts'

/** Keys and values of one message. A thousand SenML records have some ten thousand, and what is walked for nothing must stay cheap. */
const maxItems = 20_000
/** Items counted once for each container around them: cbor2 hands each up through all of them, so 19,000 at a depth of 31 took half a second. */
const maxSteps = 100_000

/**
 * The nesting and size of a binary document, told head by head before its library reads it: that would take any depth, or room for as many
 * elements as a head of five bytes announces.
 */
export class BinaryShape {
  /** Items that are still to come, of each array and map that is open; Infinity where a mark ends it. */
  readonly #open: number[] = []
  #items = 0
  #steps = 0

  /** Whether the document is complete. */
  isWhole = false

  /** A tag before an item. */
  tag(): void {
    this.#count()
  }

  /** One scalar, or a container without elements. */
  item(): void {
    this.#count()
    this.#close()
  }

  /** @param count of the elements, keys and values each for one; Infinity: `end` tells */
  enter(count: number): void {
    if (this.#open.length >= maxDepth)
      throw new DecodeError('too_deep', `more than ${maxDepth} nested objects and arrays`)
    if (count === 0) {
      this.item()
      return
    }
    this.#count()
    this.#open.push(count)
  }

  /** The end mark of a container without a length. @returns false where none is open */
  end(): boolean {
    if (this.#open.at(-1) !== Number.POSITIVE_INFINITY) return false
    this.#open.pop()
    this.#close()
    return true
  }

  #count(): void {
    this.#steps += 1 + this.#open.length
    if (++this.#items > maxItems || this.#steps > maxSteps)
      throw new DecodeError('too_many_readings', `more than ${maxItems} keys and values, or too many deep inside`)
  }

  #close(): void {
    const open = this.#open
    while (open.length > 0) {
      const left = (open[open.length - 1] as number) - 1
      open[open.length - 1] = left
      if (left > 0) return
      open.pop()
    }
    this.isWhole = true
  }
}
