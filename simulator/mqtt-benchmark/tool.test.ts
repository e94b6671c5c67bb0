import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { leastPayloadBytes, payloadOf, runTool, share } from './tool.ts'

const setting = { clients: 5, count: 10, qos: 1, size: 100, intervalSeconds: 0 } as const
const broker = { url: 'tcp://127.0.0.1:1', topic: 't' }
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mqtt-benchmark-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** A program that prints this text and the number of clients that it was given. */
async function printing(text: string) {
  const file = join(folder, `${Math.random()}.mjs`)
  await writeFile(
    file,
    `const clients = Number(process.argv.find((one) => one.startsWith('-clients=')).split('=')[1])
     process.stdout.write(${JSON.stringify(text)}.replaceAll('CLIENTS', clients))`,
  )
  return { file: process.execPath, args: [file] }
}

const totals =
  '{"runs":[],"totals":{"successes":CLIENTS0,"failures":1,"total_run_time":CLIENTS,"msg_time_max":CLIENTS,"msg_time_mean_avg":CLIENTS}}'

it('shares the clients out among the logins and adds up what the processes say', async () => {
  const result = await runTool(await printing(totals), setting, [broker, broker], 'name')
  expect(result).toEqual({
    acknowledged: 50,
    failed: 2,
    seconds: 3,
    messagesPerSecond: 50 / 3,
    meanMs: (30 * 3 + 20 * 2) / 50,
    maxMs: 3,
  })
})

it('starts no process without a client', async () => {
  const result = await runTool(await printing(totals), { ...setting, clients: 1 }, [broker, broker, broker], 'name')
  expect(result.acknowledged).toBe(10)
})

it.each(['', 'not JSON {', '{"totals":{}}'])(
  'says what the tool said when it ends without a result: %j',
  async (text) => {
    await expect(runTool(await printing(text), setting, [broker], 'name')).rejects.toMatchObject({
      code: 'BRIDGE_USAGE',
    })
  },
)

it('makes payloads of exactly the size that is asked', () => {
  for (const size of [leastPayloadBytes, 41, 100, 1000]) {
    expect(Buffer.byteLength(payloadOf(size))).toBe(size)
    expect(JSON.parse(payloadOf(size)).values.mqtt_benchmark).toBe(1)
  }
})

it('shares without a rest', () => {
  for (const [whole, parts] of [
    [10, 3],
    [2, 5],
    [7, 7],
  ] as const)
    expect(Array.from({ length: parts }, (_, index) => share(whole, parts, index)).reduce((a, b) => a + b)).toBe(whole)
})
