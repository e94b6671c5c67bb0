import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Packet } from 'mqtt-packet'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { byteFaults, type Fault, faultsOf } from '../testing/packet-faults.ts'
import { packetOf, type Sketch, validPackets } from '../testing/packet-sketch.ts'
import { RawClient } from '../testing/raw-client.ts'
import { seeded } from '../testing/seeded.ts'
import { startTestSource, type TestSource } from '../testing/source.ts'

let test: TestSource
beforeAll(async () => {
  test = await startTestSource({ connectRate: 'none', maxFilters: 8 })
})
afterAll(() => test[Symbol.asyncDispose]())

const atOnce = 64

it('every fault of every packet ends its own connection, with its code, and nothing else', {
  timeout: 60_000,
}, async () => {
  const seed = Date.now() % 1_000_000
  const random = seeded(seed)
  // Two of three, others each time: all of them would take longer than the rest of these tests together.
  const faults = distinct(allFaults(random)).filter(() => random(3) > 0)
  console.info(`malformed packets: seed ${seed}, ${faults.length} distinct packets`)
  expect(faults.length).toBeGreaterThan(2000)
  const witness = await RawClient.connect(test.port, 'witness', 5, { keepalive: 0 })
  let baseline = 0
  const wrong: string[] = []
  for (let from = 0, round = 1; from < faults.length; from += atOnce, round++) {
    const answers = await Promise.all(faults.slice(from, from + atOnce).map((fault, n) => play(fault, from + n)))
    wrong.push(...answers.filter((answer) => answer !== undefined))
    witness.publish(round, `round ${round}`)
    await witness.answered(round)
    if (round === 5) baseline = await heapBytes()
  }
  expect(wrong, `seed ${seed}`).toEqual([])
  expect((await heapBytes()) - baseline, `seed ${seed}`).toBeLessThan(16 * 1024 * 1024)
  await expect.poll(() => test.count('fleetbridge_mqtt_connections'), { timeout: 5000 }).toBe(1)
  expect(await test.count('fleetbridge_mqtt_closed_total', { reason: 'internal' }), `seed ${seed}`).toBe(0)
  witness.destroy()
})

function allFaults(random: (below: number) => number): Fault[] {
  const sketches = validPackets()
  return [
    ...sketches.flatMap((sketch) => faultsOf(sketch, random)),
    ...byteFaults(sketches, random),
    ...sketches.flatMap(unknownTypes),
    ...sketches.filter(({ first }) => first !== 0x10).map(notConnect),
  ]
}

/** Types that only servers send, AUTH without a method, a second CONNECT, and the type that does not exist. */
function unknownTypes(sketch: Sketch): Fault[] {
  if (sketch.first !== 0xc0) return []
  return [
    ['CONNECT again', packetOf(0x10, Buffer.from('\0\x04MQTT\x04\x02\0\0\0\x01a', 'latin1')), 0x82],
    ['CONNACK', packetOf(0x20, Buffer.from([0, 0])), 0x82],
    ['SUBACK', packetOf(0x90, Buffer.from([0, 1, 0])), 0x82],
    ['UNSUBACK', packetOf(0xb0, Buffer.from([0, 1])), 0x82],
    ['PINGRESP', packetOf(0xd0, Buffer.alloc(0)), 0x82],
    ['AUTH', packetOf(0xf0, Buffer.alloc(0)), 0x82],
    ['AUTH with data', packetOf(0xf0, Buffer.from([0x18, 0])), 0x82],
    ['AUTH with flags', packetOf(0xf1, Buffer.alloc(0)), 0x81],
    ['type 0', packetOf(0x00, Buffer.alloc(0)), 0x81],
    ['type 0 with flags', packetOf(0x0f, Buffer.from([1])), 0x81],
  ].map(([what, bytes, expected]) => ({ what: `${what} at level ${sketch.version}`, sketch, bytes, expected }) as Fault)
}

/** Another packet before CONNECT. */
function notConnect(sketch: Sketch): Fault {
  const bytes = packetOf(sketch.first, Buffer.concat(sketch.fields.map((field) => field.bytes)))
  const first: Sketch = { ...sketch, first: 0x10 }
  return { what: `${sketch.name} of level ${sketch.version} first`, sketch: first, bytes, expected: 'silent' }
}

function distinct(faults: readonly Fault[]): Fault[] {
  const byBytes = new Map(
    faults.map((fault) => [
      `${fault.sketch.version} ${fault.sketch.first === 0x10} ${fault.bytes.toString('latin1')}`,
      fault,
    ]),
  )
  return [...byBytes.values()]
}

/** @returns what is wrong with the answer; undefined when nothing is */
async function play({ what, sketch, bytes, expected }: Fault, n: number): Promise<string | undefined> {
  const { version } = sketch
  const isConnect = sketch.first === 0x10
  const device = `case-${n}`
  const client = isConnect
    ? await RawClient.open(test.port, version)
    : await RawClient.connect(test.port, device, version, {
        ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }),
      })
  const answers = () => client.packets.map((packet) => `${packet.cmd} ${codeOf(packet) ?? ''}`.trim()).join(', ')
  try {
    client.socket.write(isConnect ? bytes : Buffer.concat([bytes, Buffer.from([0xc0, 0])]))
    if (expected === 'lives') {
      await client.next(isConnect ? 'connack' : 'pingresp')
      return isConnect && codeOf(client.packets[0]) !== 0 ? `${what}: ${answers()}` : undefined
    }
    if (expected === 'any') client.socket.end()
    await client.closed()
    if (expected === 'any') return undefined
    const codes = expected === 'ends' ? [0x81, 0x82] : [expected]
    const isSilent = version === 4 || expected === 'silent'
    const [answer] = client.packets
    const isRight = isSilent
      ? answer === undefined
      : client.packets.length === 1 &&
        answer?.cmd === (isConnect ? 'connack' : 'disconnect') &&
        codes.includes(codeOf(answer) ?? 0)
    if (!isRight) return `${what}: expected ${expected}, got ${answers() || 'silence'}`
    const wasTaken = test.pipeline.pushed.some(({ ingress }) => ingress.principal.device === device)
    return wasTaken ? `${what}: its message was taken` : undefined
  } catch (error) {
    return `${what}: expected ${expected}, ${error instanceof Error ? error.message : error}, got ${answers() || 'nothing'}`
  } finally {
    client.destroy()
  }
}

function codeOf(packet: Packet | undefined): number | undefined {
  if (packet === undefined || !('reasonCode' in packet || 'returnCode' in packet)) return undefined
  const { reasonCode, returnCode } = packet as { reasonCode?: number; returnCode?: number }
  return reasonCode ?? returnCode
}

async function heapBytes(): Promise<number> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  await new Promise((resolve) => setTimeout(resolve, 50))
  collect()
  return process.memoryUsage().heapUsed
}
