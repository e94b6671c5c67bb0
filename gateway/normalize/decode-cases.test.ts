import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { codecByName } from './codecs.ts'
import { type DecodeCase, inOrder, runCase } from './decode-case.ts'

const caseFiles = readdirSync(new URL('./cases/', import.meta.url)).map((name) => name.slice(0, -'.json'.length))
/** Where a file has not its codec's name, or a topic of one generation is the other's too. */
const codecsOf = new Map([
  ['senml-json', ['senml']],
  ['shelly-gen2', ['shelly-gen2', 'shelly-gen1']],
])

describe.each(caseFiles)('cases/%s.json', (file) => {
  const cases = JSON.parse(readFileSync(new URL(`./cases/${file}.json`, import.meta.url), 'utf8')) as DecodeCase[]

  const names = codecsOf.get(file) ?? [file]

  it.each(cases)('$id', (example) => {
    const { codec, result } = runCase(example)
    expect(inOrder(result)).toEqual(inOrder(example.expect))
    // A message that cannot be read may not get as far as the form that it was meant to have.
    if (!('error' in example.expect)) expect([...names, 'generic']).toContain(codec)
  })

  it('names its codec', () => {
    expect(codecByName.has(names[0] as string)).toBe(true)
    expect(cases.map((example) => runCase(example).codec)).toContain(names[0])
  })
})
