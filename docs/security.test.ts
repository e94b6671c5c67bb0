import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { settings } from '#platform/config.ts'
import { installed, productionBom } from './generate-sbom.ts'

const root = join(import.meta.dirname, '..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const defaults = new Map(settings.map(({ env, schema }) => [env, String(schema.default)]))
const pages = [
  'SECURITY.md',
  'docs/security.md',
  ...readdirSync(join(root, 'docs/devices')).map((name) => `docs/devices/${name}`),
]

it.each(pages)('%s names settings that exist', (page) => {
  for (const [name] of read(page).matchAll(/\bBRIDGE_[A-Z_]+[A-Z]\b/g)) expect(defaults.has(name), name).toBe(true)
})

it('the bounds in docs/security.md have the defaults of the settings', () => {
  const rows = [...read('docs/security.md').matchAll(/^\| `(BRIDGE_[A-Z_]+)` \| `([^`]*)` \|/gm)]
  expect(rows.length).toBeGreaterThan(15)
  for (const [, name, shown] of rows) expect(shown, name).toBe(defaults.get(name as string))
})

it('npm run sbom: what npm ci --omit dev installs and nothing else, with its hashes, by names alone', () => {
  // In a folder that holds just the two files: it must not depend on what is installed.
  const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-sbom-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(root, name), join(folder, name))
  const bom = productionBom(folder)
  expect(bom).toMatchObject({
    bomFormat: 'CycloneDX',
    metadata: { component: { name: 'fleetbridge', type: 'application' } },
  })
  const listed = bom.components.map(({ name, version }) => `${name}@${version}`)
  expect(listed.toSorted()).toEqual([...installed(JSON.parse(read('package-lock.json')))].toSorted())
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  for (const [name, version] of Object.entries(dependencies)) expect(listed).toContain(`${name}@${version}`)
  const names = bom.components.map(({ name }) => name)
  for (const name of ['aedes', 'kafkajs', 'fastify', 'pg', 'pg-types', 'yaml']) expect(names).toContain(name)
  for (const name of ['vitest', 'typescript', '@biomejs/biome', 'drizzle-kit', 'fast-check'])
    expect(names).not.toContain(name)
  for (const { name, hashes } of bom.components) expect(hashes?.length, name).toBeGreaterThan(0)
  const refs = new Set(bom.dependencies.map(({ ref }) => ref))
  expect(refs.size).toBe(bom.components.length + 1)
  for (const { dependsOn } of bom.dependencies) for (const ref of dependsOn) expect(refs).toContain(ref)
  const urls = [...JSON.stringify(bom).matchAll(/https?:\/\/[^"]*/g)].map(([url]) => url)
  expect(urls, 'no registry is named').toEqual([expect.stringMatching(/^http:\/\/cyclonedx\.org\/schema\//)])
})
