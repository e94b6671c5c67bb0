import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { adminRoutes } from '#gateway/admin/admin-listener.ts'
import { adminProblems } from '#gateway/admin/problem.ts'

const page = readFileSync(new URL('admin.md', import.meta.url), 'utf8')

it('docs/admin.md names every route with its role, and no other', () => {
  const rows = [...page.matchAll(/^\| `([A-Z]+ \/[^`]+)` \| (\w+) \|/gm)].map(([, route, role]) => `${route} ${role}`)
  const routes = adminRoutes.map(({ method, path, role }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')} ${role}`)
  expect(rows.sort()).toEqual(routes.sort())
})

it('docs/admin.md explains every problem with its status, and no other', () => {
  const rows = [...page.matchAll(/^\| `([a-z_]+)` \| (\d+) \|/gm)].map(([, code, status]) => `${code} ${status}`)
  expect(rows.sort()).toEqual(
    Object.entries(adminProblems)
      .map(([code, { status }]) => `${code} ${status}`)
      .sort(),
  )
})
