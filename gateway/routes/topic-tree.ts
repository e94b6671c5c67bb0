/** Topic filters as a tree of levels, so that a topic is compared with all of them at once. */
export class TopicTree<Value> {
  readonly #root = new Level<Value>()

  /** @param filter its levels: `+` is any one, `#` at the end any number */
  add(filter: readonly string[], value: Value): void {
    let level = this.#root
    for (const name of filter) {
      if (name === '#') {
        level.below.push(value)
        return
      }
      level = level.childFor(name)
    }
    level.here.push(value)
  }

  /**
   * Values of all filters that match, in no order. Each level of the tree is entered once at most, so a topic costs no more than the levels of
   * all filters together, however long it is; no filter that begins with a wildcard matches a topic that begins with `$` (MQTT 5.0 §4.7.2).
   */
  find(topic: readonly string[]): Value[] {
    const found: Value[] = []
    this.#root.collect(topic, 0, topic[0]?.startsWith('$') === true, found)
    return found
  }
}

class Level<Value> {
  readonly here: Value[] = []
  /** Of filters that end in `#` at this level; they match the level above as well (MQTT 5.0 §4.7.1.2). */
  readonly below: Value[] = []
  readonly #children = new Map<string, Level<Value>>()
  #any: Level<Value> | undefined

  childFor(name: string): Level<Value> {
    if (name === '+') {
      this.#any ??= new Level()
      return this.#any
    }
    let child = this.#children.get(name)
    if (child === undefined) {
      child = new Level()
      this.#children.set(name, child)
    }
    return child
  }

  collect(topic: readonly string[], at: number, isDollar: boolean, found: Value[]): void {
    const mayBeWild = at > 0 || !isDollar
    if (mayBeWild) found.push(...this.below)
    const name = topic[at]
    if (name === undefined) {
      found.push(...this.here)
      return
    }
    this.#children.get(name)?.collect(topic, at + 1, isDollar, found)
    if (mayBeWild) this.#any?.collect(topic, at + 1, isDollar, found)
  }
}
