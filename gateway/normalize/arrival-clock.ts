/** Times for readings whose device gave none: the arrival, but never the same microsecond twice, so no two of them look like one reading. */
export class ArrivalClock {
  #lastUs = 0

  /** @param arrivalUs when the message came in, whole microseconds since the epoch */
  next(arrivalUs: number): number {
    this.#lastUs = arrivalUs > this.#lastUs ? arrivalUs : this.#lastUs + 1
    return this.#lastUs
  }
}
