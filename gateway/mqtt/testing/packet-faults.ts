import { variableByteInteger } from '../frame.ts'
import {
  binary,
  bodyOf,
  byte,
  type Field,
  type PropertyField,
  packetOf,
  pair,
  prefixed,
  propertiesOf,
  type Sketch,
  text,
  uint16,
  uint32,
  variable,
} from './packet-sketch.ts'

/**
 * What must come of a packet. A number: the connection ends with this reason code (3.1.1: just ends). ends: with 0x81 or 0x82. silent: without
 * a word, since nobody can tell what it was. lives: nothing is wrong with it. any: it may have become another valid packet.
 */
export type Expected = number | 'ends' | 'silent' | 'lives' | 'any'

export interface Fault {
  readonly what: string
  readonly sketch: Sketch
  readonly bytes: Buffer
  readonly expected: Expected
}

const [malformed, protocolError] = [0x81, 0x82]
/** Ill-formed UTF-8 of every kind (a lone byte, cut off, overlong, a surrogate, past U+10FFFF), and U+0000. */
const badTexts = ['80', 'c328', 'e282', 'c080', 'eda080', 'edbfbf', 'f4908080', 'ff', '00', '610062', 'c3bc00'].map(
  (hex) => Buffer.from(hex, 'hex'),
)
/** A valid value for every property that exists (MQTT 5.0 §2.2.2.2), those of servers included. */
const allProperties = new Map<number, Field>([
  [0x01, byte(1)],
  [0x02, uint32(1)],
  [0x03, text('t')],
  [0x08, text('t')],
  [0x09, binary('b')],
  [0x0b, variable(1)],
  [0x11, uint32(1)],
  [0x12, text('t')],
  [0x13, uint16(1)],
  [0x15, text('t')],
  [0x16, binary('b')],
  [0x17, byte(1)],
  [0x18, uint32(1)],
  [0x19, byte(1)],
  [0x1a, text('t')],
  [0x1c, text('t')],
  [0x1f, text('t')],
  [0x21, uint16(1)],
  [0x22, uint16(1)],
  [0x23, uint16(1)],
  [0x24, byte(1)],
  [0x25, byte(1)],
  [0x26, pair('n', 'v')],
  [0x27, uint32(1000)],
  [0x28, byte(1)],
  [0x29, byte(1)],
  [0x2a, byte(1)],
])
const flagProperties = new Set([0x01, 0x17, 0x19])
const nonzeroProperties = new Set([0x0b, 0x21, 0x27, 0x23])

/** Every fault of one packet: each field and property repeated, cut, nulled, moved, prolonged; each length off by one; each reserved bit. */
export function faultsOf(sketch: Sketch, random: (below: number) => number): Fault[] {
  const faults: Fault[] = []
  const { first, fields, name, version } = sketch
  const [isConnect, isPublish, isDisconnect] = [first === 0x10, first >> 4 === 3, first === 0xe0]
  const body = bodyOf(fields)
  const whole = packetOf(first, body)
  const add = (what: string, bytes: Buffer, expected: Expected) =>
    faults.push({ what: `${name} of level ${version}: ${what}`, sketch, bytes, expected })
  const clientId = fields[version === 5 ? 5 : 4]
  const addFields = (what: string, changed: readonly Field[], expected: Expected) => {
    // One that is let in must not be slowed because others of its name were.
    const named = changed.map((field) => (isConnect && field === clientId ? text(`client-${faults.length}`) : field))
    add(what, packetOf(first, bodyOf(named)), expected)
  }
  const replaced = (index: number, ...by: Field[]) => fields.toSpliced(index, 1, ...by)
  const lives: Expected = isDisconnect ? 'any' : 'lives'

  add('as it should be', whole, lives)
  // The fixed header.
  if (!isPublish)
    for (let bit = 0; bit < 4; bit++)
      add(`flag ${bit} turned`, packetOf(first ^ (1 << bit), body), isConnect ? 'silent' : malformed)
  else {
    add('QoS 3', packetOf(first | 0x06, body), malformed)
    add('QoS 0 with DUP', packetOf(0x38, body), malformed)
  }
  const inFrame: Expected = isConnect ? 'silent' : malformed
  const size = variableByteInteger(body.length)
  const longSize = [...size.slice(0, -1), (size.at(-1) ?? 0) | 0x80, 0]
  add('a longer remaining length than needed', Buffer.from([first, ...longSize, ...body]), inFrame)
  add('a remaining length of five bytes', Buffer.from([first, 0x80, 0x80, 0x80, 0x80, 1, ...body]), inFrame)
  for (const by of [-1, 1])
    if (body.length + by > 0)
      add(`remaining length ${by}`, Buffer.from([first, ...variableByteInteger(body.length + by), ...body]), 'any')
  // Its end.
  for (let length = 0; length < body.length; length++)
    // Without its protocol level nobody knows how to answer a CONNECT.
    add(
      `cut to ${length}`,
      packetOf(first, body.subarray(0, length)),
      isConnect && length < 7 ? 'silent' : sketch.validCuts(length) ? 'any' : 'ends',
    )
  const isList = first === 0x82 || first === 0xa2
  for (const more of [[0], [0, 0], [0xff], [1, 2, 3], [random(256)], [random(256), random(256)]])
    add(
      `prolonged by ${more}`,
      packetOf(first, Buffer.concat([body, Buffer.from(more)])),
      // 3.1.1 has acks of two bytes only; a list takes the bytes for a filter.
      isPublish ? 'any' : isList ? (version === 4 && more.length === 1 ? malformed : 'ends') : malformed,
    )
  // Its fields.
  for (const [index, field] of fields.entries()) {
    addFields(`field ${index} left out`, replaced(index), 'any')
    addFields(`field ${index} twice`, replaced(index, field, field), 'any')
    addFields(
      `field ${index} nulled`,
      replaced(index, { kind: 'rest', bytes: Buffer.alloc(field.bytes.length) }),
      'any',
    )
    if (index > 0) addFields(`field ${index} before ${index - 1}`, swapped(fields, index), 'any')
    // The protocol's name is looked at first: another one is another protocol.
    const isProtocolName = isConnect && index === 0
    for (const [changed, expected] of faultsOfLength(field))
      addFields(`length of field ${index}`, replaced(index, changed), isProtocolName ? 'silent' : expected)
    if (field.kind === 'text')
      for (const bad of badTexts)
        addFields(
          `field ${index} is ${bad.toString('hex')}`,
          replaced(index, text(bad)),
          isProtocolName ? 'silent' : malformed,
        )
    if (field.kind === 'uint16' && !(isConnect && index === 3))
      addFields('packet id 0', replaced(index, uint16(0)), protocolError)
    if (field.kind === 'properties')
      for (const [what, changed, expected] of faultsOfProperties(field, sketch, index, lives))
        addFields(`${what} in field ${index}`, replaced(index, changed), expected)
  }
  return faults
}

/** Lengths that go past the packet always show; one that is off by one may show only by what it makes of the next field. */
function* faultsOfLength({ kind, bytes }: Field): Generator<[Field, Expected]> {
  if (kind !== 'text' && kind !== 'binary') return
  for (const length of [bytes.length - 3, bytes.length - 1, 0xffff]) {
    const changed = Buffer.from(bytes)
    changed.writeUInt16BE(length)
    yield [{ kind: 'rest', bytes: changed }, length === 0xffff ? malformed : 'any']
  }
}

function* faultsOfProperties(
  field: Field,
  sketch: Sketch,
  index: number,
  lives: Expected,
): Generator<[string, Field, Expected]> {
  const items = field.items ?? []
  const size = variableByteInteger(field.bytes.length)
  const raw = (prefix: readonly number[]): Field => ({
    kind: 'rest',
    bytes: Buffer.concat([Buffer.from(prefix), field.bytes]),
  })
  yield ['reversed properties', propertiesOf([...items].reverse()), lives]
  yield ['a longer property length than needed', raw([...size.slice(0, -1), (size.at(-1) ?? 0) | 0x80, 0]), malformed]
  yield ['a property length of five bytes', raw([0x80, 0x80, 0x80, 0x80, 1]), malformed]
  yield ['a property length past the end', raw([0xff, 0xff, 0x7f]), malformed]
  for (const by of [-1, 1]) yield [`property length ${by}`, raw(variableByteInteger(field.bytes.length + by)), 'any']
  for (let cut = 1; cut < (items.at(-1)?.value.bytes.length ?? 0) + 1; cut++)
    yield [`properties cut by ${cut}`, { kind: 'properties', bytes: field.bytes.subarray(0, -cut) }, malformed]
  for (const id of [0x00, 0x04, 0x2b, 0x7f, 0x80, 0xff])
    yield [`property ${id}`, propertiesOf([...items, { id, value: byte(1) }]), malformed]
  for (const [id, value] of allProperties)
    if (!isAllowed(id, sketch, index)) {
      const isOfServers = (id === 0x0b && sketch.first >> 4 === 3) || (id === 0x1c && sketch.first === 0xe0)
      yield [
        `property ${id}, which is for others,`,
        propertiesOf([{ id, value }, ...items]),
        isOfServers ? protocolError : malformed,
      ]
    }
  for (const [at, item] of items.entries()) {
    const with_ = (value: Field) => propertiesOf(items.with(at, { id: item.id, value }))
    yield [
      `property ${item.id} twice`,
      propertiesOf(items.toSpliced(at, 1, item, item)),
      item.id === 0x26 ? lives : protocolError,
    ]
    yield [`property ${item.id} left out`, propertiesOf(items.toSpliced(at, 1)), 'any']
    yield [`property ${item.id} without its value`, with_({ kind: 'rest', bytes: Buffer.alloc(0) }), 'any']
    if (flagProperties.has(item.id))
      for (const value of [2, 3, 128, 255]) yield [`property ${item.id} of ${value}`, with_(byte(value)), protocolError]
    if (nonzeroProperties.has(item.id)) {
      const zero = {
        kind: item.value.kind,
        bytes: item.id === 0x0b ? Buffer.from([0]) : Buffer.alloc(item.value.bytes.length),
      }
      yield [`property ${item.id} of 0`, with_(zero), item.id === 0x23 ? 0x94 : protocolError]
    }
    yield* faultsOfValue(item, with_)
  }
}

function* faultsOfValue(
  { id, value }: PropertyField,
  with_: (value: Field) => Field,
): Generator<[string, Field, Expected]> {
  for (const [changed, expected] of faultsOfLength(value)) yield [`length of property ${id}`, with_(changed), expected]
  for (const bad of badTexts) {
    const hex = bad.toString('hex')
    if (value.kind === 'text') yield [`property ${id} is ${hex}`, with_(text(bad)), malformed]
    if (value.kind === 'pair') {
      const [name, other] = [prefixed(bad), prefixed(Buffer.from('x'))]
      yield [
        `name of property ${id} is ${hex}`,
        with_({ kind: 'pair', bytes: Buffer.concat([name, other]) }),
        malformed,
      ]
      yield [
        `value of property ${id} is ${hex}`,
        with_({ kind: 'pair', bytes: Buffer.concat([other, name]) }),
        malformed,
      ]
    }
  }
  if (id === 0x08)
    for (const bad of ['', '#', 'a/+/b', 'a#']) yield [`response topic "${bad}"`, with_(text(bad)), protocolError]
  if (id === 0x0b)
    yield [
      'a subscription identifier of five bytes',
      with_({ kind: 'rest', bytes: Buffer.from([0x80, 0x80, 0x80, 0x80, 1]) }),
      malformed,
    ]
}

/** Table 2-4 of MQTT 5.0, read the other way round: by packet. */
function isAllowed(id: number, { first }: Sketch, field: number): boolean {
  if (first === 0x10 && field === 4) return [0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27].includes(id)
  if (first === 0x10) return [0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26].includes(id)
  if (first >> 4 === 3) return [0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26].includes(id)
  if (first === 0x82) return [0x0b, 0x26].includes(id)
  if (first === 0xa2) return id === 0x26
  if (first === 0xe0) return [0x11, 0x1f, 0x26].includes(id)
  return [0x1f, 0x26].includes(id)
}

function swapped(fields: readonly Field[], index: number): Field[] {
  const changed = [...fields]
  ;[changed[index - 1], changed[index]] = [fields[index] as Field, fields[index - 1] as Field]
  return changed
}

const codesOf = new Map<number, readonly number[]>([
  [0x40, [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]],
  [0x50, [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]],
  [0x62, [0, 0x92]],
  [0x70, [0, 0x92]],
  [0xe0, [0, 4, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]],
])

/** Values of single bytes that the specification rules out: reason codes, subscription options, connect flags, protocol levels, types. */
export function byteFaults(sketches: readonly Sketch[], random: (below: number) => number): Fault[] {
  const faults: Fault[] = []
  for (const sketch of sketches) {
    const { first, fields, version, name } = sketch
    const add = (what: string, index: number, value: number, expected: Expected) =>
      faults.push({
        what: `${name} of level ${version}: ${what} ${value}`,
        sketch,
        bytes: packetOf(first, bodyOf(fields.with(index, byte(value)))),
        expected,
      })
    const codes = version === 5 ? codesOf.get(first) : undefined
    if (codes !== undefined)
      for (let n = 0; n < 30; n++) {
        const code = random(256)
        if (!codes.includes(code)) add('reason code', first === 0xe0 ? 0 : 1, code, protocolError)
      }
    if (first === 0x82)
      for (let options = 0; options < 256; options += 1 + random(3)) {
        const index = version === 5 ? 3 : 2
        if (version === 4) add('options', index, options, options > 2 ? malformed : 'lives')
        else if (options > 0x3f) add('options', index, options, malformed)
        else add('options', index, options, options % 4 === 3 || options >> 4 === 3 ? protocolError : 'lives')
      }
    if (first === 0x10) {
      for (let flags = 0; flags < 256; flags++)
        if (flags !== 0xce) {
          const isWrong = flags % 2 === 1 || (flags & 0x18) === 0x18 || ((flags & 4) === 0 && (flags & 0x38) !== 0)
          const hasNoName = version === 4 && (flags & 0xc0) === 0x40
          // Other flags than its own make other fields of the same bytes.
          add('connect flags', 2, flags, isWrong || hasNoName ? malformed : 'any')
        }
      for (let level = 0; level < 256; level += 1 + random(4))
        if (![3, 4, 5].includes(level & 0x7f)) add('level', 1, level, 'any')
    }
  }
  return faults
}
