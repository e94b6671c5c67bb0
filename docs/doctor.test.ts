import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { checks } from '#cli/doctor/checks.ts'

it('docs/doctor.md explains every check, in the order in which they are told', () => {
  const page = readFileSync(new URL('doctor.md', import.meta.url), 'utf8')
  expect([...page.matchAll(/^\| `([a-z ]+)` \|/gm)].map(([, name]) => name)).toEqual(checks.map(({ name }) => name))
})
