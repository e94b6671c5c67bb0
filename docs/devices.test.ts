import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { readRoutes } from '#gateway/routes/read-routes.ts'
import { samplePage, samplePages } from './device-samples.ts'
import { devicePage, devicePages, settingsPage, settingsPages } from './generate-devices.ts'

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

it.each(settingsPages)(
  'docs/devices/$platform.md shows the settings that devices add --for prints',
  ({ platform, path }) => {
    const page = readFileSync(path, 'utf8')
    expect(page).toBe(settingsPage(platform, page))
  },
)

it.each(samplePages.map((path) => ({ name: path.pathname.split('/').at(-1), path })))(
  'docs/devices/$name shows what its samples become (else: node docs/device-samples.ts)',
  ({ path }) => {
    const page = readFileSync(path, 'utf8')
    const { text, samples } = samplePage(page)
    expect(page).toBe(text)
    for (const { topic, result } of samples) {
      expect(result.message, topic).toBeUndefined()
      expect(result.result, topic).toMatchObject({ readings: [expect.anything(), ...rest(result.result)] })
    }
  },
)

it('the route tables on the pages are tables', () => {
  const blocks = samplePages.flatMap((path) => [
    ...readFileSync(path, 'utf8').matchAll(/```yaml\n(routes:[\s\S]*?)```/g),
  ])
  expect(blocks.length).toBeGreaterThan(1)
  expect(blocks.flatMap(([, block]) => readRoutes(block ?? '', 'docs/devices').problems)).toEqual([])
})

it('every family has a sample', () => {
  const without = families.filter((name) => {
    const page = readFileSync(new URL(`${name}.md`, folder), 'utf8')
    return samplePage(page).samples.length === 0
  })
  expect(without).toEqual([])
})

const rest = (result: object) => ('readings' in result ? (result.readings as unknown[]).slice(1) : [])
const families = [
  'tasmota',
  'zigbee2mqtt',
  'shelly',
  'esphome',
  'telegraf',
  'home-assistant',
  'the-things-stack',
  'chirpstack',
  'sparkplug',
  'senml',
  'owntracks',
  'thingsboard',
  'homie',
  'aws-shadow',
  'cloudevents',
]
