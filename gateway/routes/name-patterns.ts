/** A metric's name, or one with a `*` that stands for any characters, also none. */
interface Pattern<Value> {
  readonly before: string
  readonly after: string
  readonly value: Value
}

/**
 * Values by the names of metrics, the first that fits; a name that is spelled out comes before all patterns. No regular expressions: names are
 * input, and a look costs at most the length of the name for each pattern.
 */
export class NamePatterns<Value> {
  readonly #exact = new Map<string, Value>()
  readonly #patterns: Pattern<Value>[] = []

  /** @param name with at most one `*` */
  add(name: string, value: Value): void {
    const star = name.indexOf('*')
    if (star < 0) this.#exact.set(name, value)
    else this.#patterns.push({ before: name.slice(0, star), after: name.slice(star + 1), value })
  }

  /** The value, and what the `*` stood for: '' without one. */
  find(name: string): { readonly value: Value; readonly star: string } | undefined {
    const exact = this.#exact.get(name)
    if (exact !== undefined || this.#exact.has(name)) return { value: exact as Value, star: '' }
    for (const { before, after, value } of this.#patterns)
      if (name.length >= before.length + after.length && name.startsWith(before) && name.endsWith(after))
        return { value, star: name.slice(before.length, name.length - after.length) }
    return undefined
  }
}
