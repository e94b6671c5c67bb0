import Type, { type Static, type TProperties } from 'typebox'
import { Value } from 'typebox/value'
import { LineCounter, parseDocument } from 'yaml'
import { BridgeError } from '#platform/errors.ts'
import { parseDurationMs } from '../duration.ts'
import { formats, type Way } from './formats.ts'
import { models } from './models.ts'

function section<Properties extends TProperties>(properties: Properties) {
  return Type.Object(properties, { additionalProperties: false })
}

const duration = (description: string, initial?: string) =>
  Type.String({
    pattern: '^\\d{1,9}(\\.\\d{1,6})?(ms|s|m|h)?$',
    description,
    ...(initial !== undefined && { default: initial }),
  })
const share = (description: string) =>
  Type.Number({ minimum: 0, maximum: 1, default: 0, description: `${description}, as a share from 0 to 1` })
const choice = <const Names extends readonly string[]>(names: Names, initial: Names[number], description: string) =>
  Type.Unsafe<Names[number]>({ ...Type.Union(names.map((name) => Type.Literal(name))), default: initial, description })

export const transports = ['mqtt', 'mqtt5', 'ws', 'ws5', 'mqtts', 'mqtts5', 'wss', 'wss5', 'http', 'https'] as const
export type TransportName = (typeof transports)[number]

/** Devices that behave alike. */
const Group = section({
  name: Type.String({ pattern: '^[a-z0-9-]{1,32}$', description: 'part of the device ids' }),
  devices: Type.Integer({ minimum: 1, maximum: 100_000, description: 'how many' }),
  model: choice(
    models.map(({ name }) => name),
    'climate',
    'what it measures',
  ),
  every: duration('time between two messages of a device', '5s'),
  format: choice(
    formats.map(({ name }) => name),
    'own',
    'form of its payloads',
  ),
  transport: choice(
    transports,
    'mqtt',
    'mqtt is 3.1.1 and mqtt5 is 5.0 over TCP; ws WebSocket, mqtts and wss TLS, http requests',
  ),
  qos: Type.Union(
    [Type.Integer({ minimum: 0, maximum: 2 }), Type.Array(Type.Number({ minimum: 0 }), { minItems: 1, maxItems: 3 })],
    {
      default: 1,
      description: 'MQTT: 0, 1 or 2; or weights of the three, such as [1, 8, 1]',
    },
  ),
  batch: Type.Integer({
    minimum: 1,
    maximum: 1000,
    default: 1,
    description: 'HTTP: messages of one request, where so many are due',
  }),
  clock: choice(
    ['device', 'none'] as const,
    'device',
    'device: messages carry their time; none: the time of arrival counts',
  ),
  driftPpm: Type.Number({
    minimum: -100_000,
    maximum: 100_000,
    default: 0,
    description: 'microseconds a second by which its clock runs away',
  }),
  jumps: Type.Array(
    section({
      at: duration('when, from the start'),
      by: Type.String({ pattern: '^-?\\d{1,9}(ms|s|m|h)?$', description: 'how far, -1h is back' }),
    }),
    {
      default: [],
      maxItems: 100,
      description: 'jumps of its clock',
    },
  ),
  offline: Type.Optional(
    section({
      every: duration('mean time between two'),
      for: duration('how long; what is due meanwhile is sent afterwards'),
    }),
  ),
  duplicates: share('messages that are sent twice on purpose'),
  late: share('messages that are kept back and sent after newer ones'),
  lateBy: duration('how long they are kept back at most', '10s'),
  malformed: share('messages that cannot be decoded'),
})
export type Group = Static<typeof Group>

const Scenario = section({
  name: Type.String({ pattern: '^[a-z0-9-]{1,32}$' }),
  description: Type.String({ default: '', maxLength: 500 }),
  duration: duration('how long to send', '60s'),
  ramp: duration('over which time the devices come in', '2s'),
  storms: Type.Array(
    section({
      at: duration('when'),
      share: Type.Number({ minimum: 0, maximum: 1, default: 1, description: 'of the connections' }),
    }),
    { default: [], maxItems: 100, description: 'moments at which connections are cut and come back at once' },
  ),
  groups: Type.Array(Group, { minItems: 1, maxItems: 50 }),
})
export type Scenario = Static<typeof Scenario>

/**
 * Reads a scenario as people write it.
 * @throws BridgeError BRIDGE_USAGE that lists every problem with its line
 */
export function readScenario(text: string, file: string): Scenario {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  const problems = document.errors.map(
    ({ pos, message }) => `line ${lines.linePos(pos[0]).line}: ${message.split('\n')[0]}`,
  )
  const raw: unknown =
    problems.length === 0 ? Value.Default(Scenario, document.toJS({ maxAliasCount: 100 })) : undefined
  if (problems.length === 0)
    for (const { instancePath, message } of Value.Errors(Scenario, raw)) {
      const path = instancePath.split('/').slice(1)
      problems.push(`line ${lineOf(path)}: ${path.join('.') || 'the file'}: ${message}`)
    }
  if (problems.length === 0) problems.push(...contradictions(raw as Scenario))
  if (problems.length > 0)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `${file} is not a scenario:\n${problems.map((problem) => `  - ${problem}`).join('\n')}\nSee docs/simulator.md.`,
    )
  return raw as Scenario

  function lineOf(path: readonly string[]): number {
    for (let length = path.length; length > 0; length--) {
      const node = document.getIn(path.slice(0, length), true) as { range?: [number, number, number] } | undefined
      if (node?.range !== undefined) return lines.linePos(node.range[0]).line
    }
    return 1
  }
}

function contradictions({ groups, storms, ...times }: Scenario): string[] {
  const problems: string[] = []
  const names = new Set<string>()
  for (const { name, format, transport, clock } of groups) {
    if (names.has(name)) problems.push(`two groups are called ${name}`)
    names.add(name)
    const { over } = formats.find((one) => one.name === format) as (typeof formats)[number]
    const way = wayOf(transport)
    if (!over.includes(way))
      problems.push(`${name}: the format ${format} goes over ${over.join(', ')}, not over ${transport}`)
    // A message without time and without id that is sent again after a lost answer is another message, rightly.
    if (clock === 'none' && format !== 'own')
      problems.push(`${name}: without a clock a message needs an id, which the format own has`)
  }
  for (const text of [times.duration, times.ramp, ...storms.map(({ at }) => at), ...groups.map(({ every }) => every)])
    if (parseDurationMs(text) === undefined) problems.push(`${text} is not a time above 0`)
  return problems
}

export function wayOf(transport: TransportName): Way {
  return transport.startsWith('http') ? 'http' : transport.endsWith('5') ? 'mqtt5' : 'mqtt'
}
