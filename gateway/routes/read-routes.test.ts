import { describe, expect, it } from 'vitest'
import { readRoutes } from './read-routes.ts'

const problemsOf = (text: string) => readRoutes(text, 'fleetbridge.yaml').problems

it('a table with everything in it', () => {
  const { rules, problems } = readRoutes(
    `mqtt:
  port: 1
routes:
  - topic: plant/+/line/#
    contentType: Application/JSON; charset=utf-8
    tenant: acme
    codec: own
    device: "{+1}/{#}"
    drop: [debug.*, rssi]
    rename: { temp: temperature, "AM2301.*": "*" }
    units: { temperature: °C, ratio: null }
  - path: /hooks/acme
    codec: influx-line
    options: { precision: s, deviceTags: [entity_id], tagsInNames: false }
`,
    'fleetbridge.yaml',
  )
  expect(problems).toEqual([])
  expect(rules).toMatchObject([
    {
      source: 'mqtt',
      levels: ['plant', '+', 'line', '#'],
      contentType: 'application/json',
      tenant: 'acme',
      codec: { name: 'own' },
    },
    {
      source: 'http',
      levels: ['', 'hooks', 'acme'],
      options: { precision: 's', deviceTags: ['entity_id'], tagsInNames: false },
    },
  ])
})

it.each(['', 'routes:', 'routes: []', '[]', 'mqtt: { port: 1 }'])('%j is no table, and no fault', (text) => {
  expect(readRoutes(text, 'x')).toEqual({ rules: [], problems: [] })
})

it('a list alone is a table too, and JSON is YAML', () => {
  expect(readRoutes('[{"topic":"a/b","codec":"generic"}]', 'BRIDGE_ROUTES').rules).toHaveLength(1)
})

it('everything that is wrong is listed at once, with its line', () => {
  const problems = problemsOf(`routes:
  - topic: a/b#
    codec: tasmata
  - topic: a/+
    device: "{+2}"
    topics: x
  - path: hooks
    topic: a
  - path: hooks?x=1
  - path: /a?x=1
    keepRaw: both
    tenant: Acme
    contentType: json
  - topic: $share/g/a
  - 5
  - topic: a/#/b
    drop: rssi
    rename: { a: "b*", "a*b*": c }
    units: { a: 5 }
  - topic: a
    options: { precision: s }
  - topic: a
    codec: influx-line
    options: { precision: days, deviceTags: [], speed: 1 }
  - topic: a
    codec: own
    options: { precision: s }
  - codec: own
  - { topic: 5 }
`)
  expect(problems.map((problem) => problem.replace('fleetbridge.yaml ', ''))).toEqual([
    expect.stringMatching(/^line 2: topic: \+ and # must be a whole level, and "b#" is none/),
    expect.stringMatching(/^line 3: there is no codec "tasmata"; there are .*tasmota/),
    expect.stringMatching(/^line 6: unknown key "topics"; a route has topic, path/),
    expect.stringMatching(/^line 5: device has \{\+2\}, but the filter has only 1 \+/),
    expect.stringMatching(/^line 7: a route has either a topic \(MQTT\) or a path/),
    expect.stringMatching(/^line 9: path must begin with \//),
    expect.stringMatching(/^line 10: path is matched without its query/),
    expect.stringMatching(/^line 13: contentType must be a media type/),
    expect.stringMatching(/^line 12: tenant must be/),
    expect.stringMatching(/^line 11: keepRaw must be days/),
    expect.stringMatching(/^line 14: topic: a shared subscription/),
    expect.stringMatching(/^line 15: a route must be an entry/),
    expect.stringMatching(/^line 16: topic: # may only stand at the end/),
    expect.stringMatching(/^line 17: drop must be a list/),
    expect.stringMatching(/^line 18: rename: b\* has a \*, but a has none/),
    expect.stringMatching(/^line 18: rename: a\*b\* has more than one \*/),
    expect.stringMatching(/^line 19: units: the unit of a must be text/),
    expect.stringMatching(/^line 21: options belong to a codec/),
    expect.stringMatching(/^line 24: options: precision must be ns, us, ms, s, m or h/),
    expect.stringMatching(/^line 24: options: deviceTags must be a list/),
    expect.stringMatching(/^line 24: options: influx-line has no option "speed"; it has precision/),
    expect.stringMatching(/^line 27: options: own has no option "precision"$/),
    expect.stringMatching(/^line 28: a route has either a topic/),
    expect.stringMatching(/^line 29: topic must be text/),
  ])
})

describe('templates', () => {
  it.each([
    ['{', /has a \{ without its \}/],
    ['a}b', /has a \} without its \{/],
    ['{topic}', /has \{topic\}; there are/],
    ['{+0}', /there are \{\+1\}/],
    ['{#}', /has \{#\}, but the filter does not end in #/],
    ['{+2}', /the filter has only 1 \+/],
  ])('%s', (device, fault) => {
    expect(problemsOf(`- { topic: "a/+", device: ${JSON.stringify(device)} }`)).toEqual([expect.stringMatching(fault)])
  })
})

it.each(['routes: {a: 1}', 'routes: 5', 'just text', 'routes: [', 'routes: *b'])(
  '%j is refused with a line',
  (text) => {
    expect(problemsOf(text)[0]).toMatch(/fleetbridge\.yaml line \d+: /)
  },
)

it('aliases of YAML cannot make a small file large', () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nroutes:\n  - topic: a\n    drop: *b\n`
  expect(problemsOf(bomb)).toEqual([expect.stringMatching(/line 5: drop: YAML aliases/)])
})

it('a table has an end', () => {
  expect(problemsOf(`${'- topic: a\n'.repeat(1001)}`)).toEqual([expect.stringMatching(/more than 1000 routes/)])
  expect(problemsOf(`- topic: ${'a/'.repeat(200)}a`)).toEqual([expect.stringMatching(/more than 128 levels/)])
  expect(problemsOf(`#${'x'.repeat(1_048_576)}`)).toEqual([expect.stringMatching(/larger than/)])
})
