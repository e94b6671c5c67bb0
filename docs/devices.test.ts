import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { devicePage, devicePages } from './generate-devices.ts'

const folder = new URL('devices/', import.meta.url)

it.each(devicePages)(
  'docs/devices/$platform.md shows what devices add --for prints (else: node docs/generate-devices.ts)',
  ({ platform, path }) => {
    const page = readFileSync(path, 'utf8')
    expect(page).toBe(devicePage(platform, page))
  },
)

it('a page that is older than its program is found', () => {
  const { platform, path } = devicePages[0] as (typeof devicePages)[number]
  const page = readFileSync(path, 'utf8')
  const older = page.replace('.session.keepalive = 60', '.session.keepalive = 120')
  expect(older).not.toBe(page)
  expect(devicePage(platform, older)).toBe(page)
})

it('every page is in the list of docs/devices/README.md, and every link leads somewhere', () => {
  const pages = readdirSync(folder).filter((name) => name.endsWith('.md'))
  const list = readFileSync(new URL('README.md', folder), 'utf8')
  for (const name of pages) {
    if (name !== 'README.md') expect(list).toContain(`](${name})`)
    const page = readFileSync(new URL(name, folder), 'utf8')
    for (const [, target] of page.matchAll(/\]\(([^)#:]+)(#[^)]*)?\)/g))
      expect(existsSync(new URL(target as string, folder)), `${name}: ${target}`).toBe(true)
  }
})
