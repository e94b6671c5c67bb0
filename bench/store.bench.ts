/**
 * What the worker's transaction costs: `DATABASE_URL=postgres://… node bench/store.bench.ts` on an empty database of a scratch server.
 * Messages of two readings from 500 devices, in batches as the worker makes them; prints messages a second, and CPU of this process a message.
 * KEYS=id: each has a name of its own; KEYS=delivery: none, and readings without a time, by MQTT at QoS 1.
 */

import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { migrate } from '#platform/migrate.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { startStore } from '#worker/store/store.ts'
import type { StreamRecord } from '#worker/store/stream-slice.ts'

const databaseUrl = process.env.DATABASE_URL
if (databaseUrl === undefined) throw new Error('DATABASE_URL names a scratch database')
const devices = 500
const { KEYS: keys } = process.env
const messagesInAll = Number(process.env.MESSAGES ?? 200_000)

await migrate(databaseUrl, silentLog)
await using store = await startStore({
  databaseUrl,
  poolSize: 2,
  retention: '90d',
  log: silentLog,
  metrics: createMetrics('bench'),
})
let nowUs = Date.now() * 1000

for (const batch of (process.env.BATCHES ?? '100,500,2000').split(',').map(Number)) {
  await run(batch, 5 * batch)
  await run(batch, messagesInAll, true)
}

async function run(batchMessages: number, total: number, print = false): Promise<void> {
  const stream = `bench ${process.pid} ${batchMessages}`
  let offset = (await store.offsets(stream, [0])).get(0) ?? 0
  let spentMs = 0
  let spentCpuUs = 0
  for (let done = 0; done < total; done += batchMessages) {
    const records: StreamRecord[] = []
    for (let index = 0; index < batchMessages; index++)
      records.push({ offset: offset + index, event: eventOf(done + index) })
    const cpu = process.cpuUsage()
    const startedAt = performance.now()
    const outcome = await store.write([
      { stream, partition: 0, fromOffset: offset, nextOffset: offset + batchMessages, records },
    ])
    spentMs += performance.now() - startedAt
    const { user, system } = process.cpuUsage(cpu)
    spentCpuUs += user + system
    if (outcome.stored !== batchMessages) throw new Error(`stored ${outcome.stored} of ${batchMessages}`)
    offset += batchMessages
  }
  if (!print) return
  const rate = Math.round(total / (spentMs / 1000))
  console.log(
    `batch ${batchMessages}: ${rate} msg/s, ${(spentCpuUs / total).toFixed(1)} µs CPU a message in this process`,
  )
}

function eventOf(number: number): TelemetryEvent {
  nowUs += 10
  return {
    v: 1,
    id: '01890a5d-ac96-774b-bcce-b302099a8057',
    ...(keys === 'id' && { messageKey: `message-${nowUs}` }),
    ...(keys === 'delivery' && { deliveryKey: `delivery-${nowUs}` }),
    tenant: 'default',
    device: `bench-${number % devices}`,
    gateway: 'bench',
    source: 'mqtt',
    codec: 'own',
    ingestTimeUs: nowUs,
    readings: [
      { metric: 'temperature', value: number / 10, unit: 'Cel', eventTimeUs: nowUs },
      { metric: 'humidity', value: 40 + (number % 20), unit: '%RH', eventTimeUs: nowUs },
    ],
  }
}
