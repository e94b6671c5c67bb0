import { readdirSync, readFileSync } from 'node:fs'
import { encode as encodeMsgpack } from '@msgpack/msgpack'
import { encode as encodeCbor } from 'cbor2'
import type { Ingress } from '#gateway/ingress.ts'
import { createNormalizer } from '#gateway/normalize/create-normalizer.ts'
import { type DecodeCase, runCase } from '#gateway/normalize/decode-case.ts'

/**
 * Prints what a message costs from its bytes to its record, by codec: `node bench/decode.bench.ts`. For each the shortest and the longest of the
 * cases that have readings, the fastest of several rounds, since everything else on the machine only ever adds.
 */
const rounds = 15
const batchSize = 200
const batches = 10
const now = Date.now()

const principal = {
  tenant: 'default',
  device: 'pump-1',
  fleet: true,
  credentialId: 'bench',
  operator: false,
  expiresAtMs: Number.POSITIVE_INFINITY,
  allows: () => true,
}
const normalizer = createNormalizer({ retentionMs: undefined, authenticator: { admitDevice: () => 'admitted' } })

const own = { ts: now, values: { temperature: 21.5, humidity: 40.25 } }
const ownUs = measure(ingress('devices/me/telemetry', Buffer.from(JSON.stringify(own))))
console.info(`own form, 2 readings: ${ownUs.toFixed(2)} µs a message (at most 5)`)
for (const [type, bytes] of [
  ['application/msgpack', encodeMsgpack(own)],
  ['application/cbor', encodeCbor(own)],
] as const)
  report(`the same as ${type}`, ingress('devices/me/telemetry', Buffer.from(bytes), type))

const folder = new URL('../gateway/normalize/cases/', import.meta.url)
for (const name of readdirSync(folder)) {
  const cases = JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as DecodeCase[]
  const good = cases.filter((example) => 'readings' in example.expect && example.expect.readings.length > 0)
  const messages = good.map(messageOf).sort((a, b) => a.payload.length - b.payload.length)
  for (const [index, example] of [messages[0], messages.at(-1)].entries())
    if (example !== undefined) report(`${name.replace('.json', '')} ${index === 0 ? 'short' : 'long'}`, example)
}

function report(name: string, message: Ingress): void {
  console.info(`${name}, ${message.payload.length} bytes: ${measure(message).toFixed(2)} µs`)
}

/** Microseconds a message. */
function measure(message: Ingress): number {
  const batch = Array.from({ length: batchSize }, () => message)
  const [outcome] = normalizer.normalize([message])
  if (outcome?.kind !== 'events') throw new Error(`${message.topic} was not decoded: ${JSON.stringify(outcome)}`)
  let fastestMs = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds; round++) {
    const start = performance.now()
    for (let index = 0; index < batches; index++) normalizer.normalize(batch)
    fastestMs = Math.min(fastestMs, performance.now() - start)
  }
  return (fastestMs * 1000) / (batchSize * batches)
}

function messageOf(example: DecodeCase): Ingress {
  if ('error' in runCase(example).result) throw new Error(`case ${example.id} fails`)
  for (const before of example.before ?? []) normalizer.normalize([ingressOf({ ...example, ...before })])
  return ingressOf(example)
}

function ingressOf(example: DecodeCase): Ingress {
  const { topic, path, payload_base64: base64, payload_utf8: text, headers } = example
  return {
    ...ingress(topic ?? path ?? '', Buffer.from(base64 ?? text ?? '', base64 === undefined ? 'utf8' : 'base64')),
    source: example.transport,
    contentType: example.content_type,
    headers: headers && new Map(Object.entries(headers)),
  }
}

function ingress(topic: string, payload: Buffer, contentType?: string): Ingress {
  return {
    principal,
    source: 'mqtt',
    topic,
    contentType,
    payload,
    device: undefined,
    fleetItem: false,
    acknowledgesParked: false,
    ingestTimeUs: now * 1000,
    arrivedAtMs: 0,
  }
}
