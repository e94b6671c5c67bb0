import { expect, it } from 'vitest'
import { seeded } from '../mqtt/testing/seeded.ts'
import { covers } from '../mqtt/topic-filter.ts'
import type { RawReading } from '../normalize/codec.ts'
import { readRoutes } from './read-routes.ts'
import { type Routed, RouteTable } from './route-table.ts'

function tableOf(yaml: string): RouteTable {
  const { rules, problems } = readRoutes(yaml, 'test')
  expect(problems).toEqual([])
  return new RouteTable(rules)
}

const mqtt = (topic: string, more: Partial<Routed> = {}): Routed => ({
  source: 'mqtt',
  topic,
  contentType: undefined,
  principal: { tenant: 'default' },
  ...more,
})
const http = (topic: string, more: Partial<Routed> = {}): Routed => mqtt(topic, { source: 'http', ...more })
const raw = (metric: string, more: Partial<RawReading> = {}): RawReading => ({
  device: 'found',
  metric,
  value: 1,
  unit: undefined,
  timeUs: undefined,
  element: 0,
  ...more,
})

it('the first rule that fits, by topic, tenant and content type', () => {
  const table = tableOf(`
- { topic: a/b, tenant: acme, codec: own }
- { topic: a/+, contentType: text/plain, codec: seed }
- { topic: a/#, codec: tasmota }
- { topic: "#", codec: generic }
`)
  const codecOf = (routed: Routed) => table.find(routed)?.rule.codec?.name
  expect(codecOf(mqtt('a/b', { principal: { tenant: 'acme' } }))).toBe('own')
  expect(codecOf(mqtt('a/b'))).toBe('tasmota')
  expect(codecOf(mqtt('a/b', { contentType: 'Text/Plain; charset=utf-8' }))).toBe('seed')
  expect(codecOf(mqtt('a/b', { contentType: 'application/json' }))).toBe('tasmota')
  expect(codecOf(mqtt('a')), 'a/# covers a').toBe('tasmota')
  expect(codecOf(mqtt('x/y'))).toBe('generic')
  expect(codecOf(mqtt('$aws/things')), 'no wildcard covers $').toBeUndefined()
  expect(codecOf(http('/a/b')), 'topics are not paths').toBeUndefined()
})

it('paths are matched without their query, and their levels are percent-decoded', () => {
  const table = tableOf('- { path: "/hooks/+", device: "{+1}" }')
  expect(table.find(http('/hooks/a%2Fb?event=up'))?.deviceOf('me')).toBe('a/b')
  expect(table.find(http('/hooks/%E0%A4%A'))?.deviceOf('me'), 'no UTF-8: as it is').toBe('%E0%A4%A')
  expect(table.hasPath('/hooks/x?y=/z')).toBe(true)
  expect(table.hasPath('/hooks')).toBe(false)
})

it('templates', () => {
  const table = tableOf(`
- { topic: "a/+/b/+/#", device: "{+2}-{+1}/{#}" }
- { topic: "c/#", device: "{client}:{device}" }
`)
  expect(table.find(mqtt('a/1/b/2/3/4'))?.deviceOf('me')).toBe('2-1/3/4')
  const late = table.find(mqtt('c/x'))
  expect(late?.deviceOf('me'), 'it needs what the codec finds').toBeUndefined()
  expect(late?.apply([raw('t'), raw('t', { device: 'other' })], 'me', true).map(({ device }) => device)).toEqual([
    'me:found',
    'me:other',
  ])
  expect(late?.apply([raw('t')], 'me', false)[0]?.device, 'the path has named one').toBe('found')
})

it('drop, then rename, then units', () => {
  const table = tableOf(`
- topic: t
  drop: [debug.*, rssi]
  rename: { temp: temperature, "AM2301.*": "*", "*.raw": "raw.*" }
  units: { temperature: °C, Humidity: "%RH", "raw.*": null, on: V }
`)
  const route = table.find(mqtt('t'))
  const names = ['debug.x', 'rssi', 'temp', 'AM2301.Humidity', 'a.raw', 'debug', 'on', '__proto__']
  const readings = names.map((name) => raw(name, { unit: 'old' }))
  for (let times = 0; times < 2; times++)
    expect(route?.apply(readings, 'me', true).map(({ metric, unit }) => [metric, unit])).toEqual([
      ['temperature', 'Cel'],
      ['Humidity', '%RH'],
      ['raw.a', undefined],
      ['debug', 'old'],
      ['on', 'V'],
      ['__proto__', 'old'],
    ])
})

it('a $ in a name is no pattern of String.replace', () => {
  const route = tableOf(`- { topic: t, rename: { "a*": "b*" } }`).find(mqtt('t'))
  expect(route?.apply([raw("a$&$'")], 'me', true)[0]?.metric).toBe("b$&$'")
})

it('what is remembered of topics and metrics has an end', () => {
  const table = tableOf('- { topic: "a/#", rename: { "x*": "y*" } }')
  for (let n = 0; n < 25_000; n++) table.find(mqtt(`a/${n}`))
  const route = table.find(mqtt('a/1'))
  for (let n = 0; n < 10_000; n++) expect(route?.apply([raw(`x${n}`)], 'me', true)[0]?.metric).toBe(`y${n}`)
})

it('finds what MQTT says that a filter covers', () => {
  const seed = Date.now() % 1_000_000
  console.info(`routes against filters: seed ${seed}`)
  const random = seeded(seed)
  const pick = <T>(of: readonly T[]) => of[random(of.length)] as T
  for (let round = 0; round < 300; round++) {
    const filters = Array.from({ length: 12 }, () => {
      const levels = Array.from({ length: 1 + random(4) }, () => pick(['a', 'b', 'x', '+']))
      if (random(10) < 3) levels.push('#')
      return levels.join('/')
    })
    const table = tableOf(filters.map((topic) => `- { topic: ${JSON.stringify(topic)} }`).join('\n'))
    for (let n = 0; n < 20; n++) {
      const topic = Array.from({ length: 1 + random(5) }, () => pick(['a', 'b', 'c', ''])).join('/')
      const found = table.find(mqtt(topic))?.rule.levels.join('/')
      expect(found, topic).toBe(filters.find((filter) => covers(filter, topic)))
    }
  }
})

it('a topic costs no more than the table has levels, however its wildcards lie', () => {
  const filters = Array.from({ length: 1000 }, (_, n) =>
    Array.from({ length: 16 }, (_, at) => ((n >> (at % 10)) & 1 ? '+' : 'a')).join('/'),
  )
  const table = tableOf(filters.map((topic) => `- { topic: "${topic}/end" }`).join('\n'))
  const startMs = performance.now()
  for (let n = 0; n < 50; n++) table.find(mqtt(`${'a/'.repeat(16)}x${n}`))
  expect((performance.now() - startMs) / 50, 'ms a topic that was never seen').toBeLessThan(20)
})
