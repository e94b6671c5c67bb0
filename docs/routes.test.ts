import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { readRoutes, routeKeys } from '#gateway/routes/read-routes.ts'

const page = readFileSync(new URL('routes.md', import.meta.url), 'utf8')

it('the tables of docs/routes.md are tables', () => {
  const blocks = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, block]) => block ?? '')
  const inEnvironment = /BRIDGE_ROUTES='([^']*)'/.exec(page)?.[1] ?? ''
  const read = [...blocks, inEnvironment].map((text) => readRoutes(text, 'docs/routes.md'))
  expect(read.flatMap(({ problems }) => problems)).toEqual([])
  expect(read.map(({ rules }) => rules.length)).toEqual([3, 1])
})

it('docs/routes.md explains every key of an entry, and no other', () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \|/gm)].map(([, key]) => key)
  expect(rows.sort()).toEqual(routeKeys.toSorted())
})
