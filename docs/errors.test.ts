import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { errorTable } from '#platform/errors.ts'
import { reasonCodes } from '#schema/reason-code.ts'

const page = readFileSync(new URL('errors.md', import.meta.url), 'utf8')
const rows = [...page.matchAll(/^\| `([A-Za-z_]+)` +\|/gm)].map(([, code]) => code)

it('docs/errors.md explains every code, and no other', () => {
  expect(rows.filter((code) => code?.startsWith('BRIDGE_')).sort()).toEqual(Object.keys(errorTable).sort())
  expect(rows.filter((code) => !code?.startsWith('BRIDGE_')).sort()).toEqual([...reasonCodes].sort())
})
