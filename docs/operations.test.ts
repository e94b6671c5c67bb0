import { readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { settings } from '#platform/config.ts'

const root = new URL('../', import.meta.url)
const page = readFileSync(new URL('operations.md', import.meta.url), 'utf8')
const sources = ['gateway', 'worker', 'platform']
  .flatMap((folder) =>
    readdirSync(new URL(folder, root), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && !file.includes('.test.'))
      .map((file) => readFileSync(new URL(`${folder}/${file}`, root), 'utf8')),
  )
  .join()

it('names metrics and settings that exist', () => {
  const named = new Set(
    [...page.matchAll(/(?<!\.)\bfleetbridge_[a-z_]+/g)].map(([name]) => name.replace(/_bucket$/, '')),
  )
  expect(named.size).toBeGreaterThan(10)
  for (const name of named) expect(sources.includes(`'${name}'`), name).toBe(true)
  const known = new Set(settings.map(({ env }) => env))
  for (const [name] of page.matchAll(/\bBRIDGE_(?!SCHEMA_NEWER|OFFSET)[A-Z0-9_]+/g))
    expect(known.has(name), name).toBe(true)
})

it('its alarms are a file that Prometheus reads', () => {
  const text = /```yaml\n(groups:[\s\S]*?)```/.exec(page)?.[1] ?? ''
  const { groups } = parse(text) as { groups: { rules: { alert: string; expr: string }[] }[] }
  const rules = groups.flatMap((group) => group.rules)
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length)
  for (const { alert, expr } of rules) expect(expr, alert).toMatch(/[<>=]=? /)
})
