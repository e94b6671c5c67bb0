import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { oldestProgram } from './migrate.ts'

it('every migration names the oldest program that it leaves working, which is none of the later ones', () => {
  const folder = new URL('../schema/migrations/', import.meta.url)
  const { entries } = JSON.parse(readFileSync(new URL('meta/_journal.json', folder), 'utf8')) as {
    entries: { tag: string }[]
  }
  for (const [index, { tag }] of entries.entries()) {
    expect(readFileSync(new URL(`${tag}.sql`, folder), 'utf8'), `${tag}: see docs/operations.md, "Upgrading"`).toMatch(
      /^-- Programs since \S+ run on this\.$/m,
    )
    const oldest = entries.findIndex((entry) => entry.tag === oldestProgram(tag))
    expect(oldest, tag).toBeGreaterThanOrEqual(0)
    expect(oldest, tag).toBeLessThanOrEqual(index)
  }
})
