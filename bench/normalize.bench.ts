import { createNormalizer } from '#gateway/normalize/create-normalizer.ts'
import { splitArray } from '#gateway/normalize/split-json.ts'

/** Prints what decoding costs on this machine: `node bench/normalize.bench.ts`. */
const principal = {
  tenant: 'default',
  device: 'pump-1',
  fleet: false,
  credentialId: 'bench',
  operator: false,
  expiresAtMs: Number.POSITIVE_INFINITY,
  allows: (device: string) => device === 'pump-1',
}
const normalizer = createNormalizer({
  retentionMs: undefined,
  authenticator: { admitDevice: () => 'admitted' },
})
const batchSize = 500
const batches = 40
const rounds = 12

const now = Date.now()
report('own form, 2 readings', `{"ts":${now},"values":{"temperature":21.5,"humidity":40.25}}`)
report('own form, units, no time', '{"values":{"temperature":{"value":21.5,"unit":"C"},"humidity":40.25}}')
report('generic object, 2 readings', '{"temperature":21.5,"humidity":40.25}')
report('plain text', '21.5')
report('broken JSON, parked', '{"temperature":21.5,')

const element = `{"ts":${now},"values":{"temperature":21.5,"humidity":40.25}}`
const body = Buffer.from(`[${Array.from({ length: 10_000 }, () => element).join(',')}]`)
let fastestMs = Number.POSITIVE_INFINITY
for (let round = 0; round < rounds; round++) {
  const start = performance.now()
  splitArray(body)
  fastestMs = Math.min(fastestMs, performance.now() - start)
}
console.info(`split an array of 10,000: ${((fastestMs * 1000) / 10_000).toFixed(2)} µs an element`)

/** The fastest round, since everything else on the machine only ever adds. */
function report(name: string, payload: string): void {
  const batch = Array.from({ length: batchSize }, () => ({
    principal,
    source: 'mqtt' as const,
    topic: 'devices/me/telemetry',
    contentType: undefined,
    payload: Buffer.from(payload),
    device: undefined,
    fleetItem: false,
    acknowledgesParked: false,
    ingestTimeUs: now * 1000,
    arrivedAtMs: 0,
  }))
  let fastest = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds; round++) {
    const start = performance.now()
    for (let index = 0; index < batches; index++) normalizer.normalize(batch)
    fastest = Math.min(fastest, performance.now() - start)
  }
  console.info(`${name}: ${((fastest * 1000) / (batchSize * batches)).toFixed(2)} µs a message`)
}
