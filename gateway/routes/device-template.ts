/** What stands for a part of a device id. */
type Part = string | Hole
type Hole = { readonly level: number } | { readonly name: 'rest' | 'client' | 'device' }

/** What a template is filled in with. */
export interface TemplateValues {
  /** Levels of the topic that the `+` of the filter matched. */
  readonly plus: readonly string[]
  /** Levels that its `#` matched, with slashes. */
  readonly rest: string
  /** The credential's own device. */
  readonly client: string
}

/**
 * A device id with holes: `{+1}` is the level that the filter's first `+` matched, `{#}` what its `#` did, `{client}` the credential's own
 * device, `{device}` the device that the codec found.
 */
export class DeviceTemplate {
  readonly #parts: readonly Part[]
  /** Whether the codec's device is part of it, so that each reading has its own. */
  readonly needsDevice: boolean

  private constructor(parts: readonly Part[]) {
    this.#parts = parts
    this.needsDevice = parts.some((part) => typeof part === 'object' && 'name' in part && part.name === 'device')
  }

  /** @returns the template, or what is wrong with it, as a sentence for a person */
  static parse(text: string, levels: readonly string[]): DeviceTemplate | string {
    const pluses = levels.filter((level) => level === '+').length
    const parts: Part[] = []
    for (let at = 0; at < text.length; ) {
      const open = text.indexOf('{', at)
      const literal = text.slice(at, open < 0 ? text.length : open)
      if (literal.includes('}')) return 'has a } without its {'
      if (literal !== '') parts.push(literal)
      if (open < 0) break
      const close = text.indexOf('}', open)
      if (close < 0) return 'has a { without its }'
      const part = partOf(text.slice(open + 1, close), pluses, levels.at(-1) === '#')
      if (typeof part === 'string') return part
      parts.push(part)
      at = close + 1
    }
    return parts.length === 0 ? 'is empty' : new DeviceTemplate(parts)
  }

  fill({ plus, rest, client }: TemplateValues, device = ''): string {
    let id = ''
    for (const part of this.#parts) {
      if (typeof part === 'string') id += part
      else if ('level' in part) id += plus[part.level] ?? ''
      else if (part.name === 'rest') id += rest
      else id += part.name === 'client' ? client : device
    }
    return id
  }
}

function partOf(name: string, pluses: number, hasRest: boolean): Hole | string {
  if (name === 'client' || name === 'device') return { name }
  if (name === '#') return hasRest ? { name: 'rest' } : 'has {#}, but the filter does not end in #'
  if (!/^\+[1-9]\d?$/.test(name))
    return `has {${name.slice(0, 40)}}; there are {+1}, {+2}, …, {#}, {client} and {device}`
  const number = Number(name.slice(1))
  if (number > pluses) return `has {${name}}, but the filter has ${pluses === 0 ? 'no' : `only ${pluses}`} +`
  return { level: number - 1 }
}
