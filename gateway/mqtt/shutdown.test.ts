import { once } from 'node:events'
import { createConnection } from 'node:net'
import { expect, it } from 'vitest'
import { stored } from '../verdict.ts'
import { RawClient } from './testing/raw-client.ts'
import { RecordingPipeline } from './testing/recording-pipeline.ts'
import { startTestSource } from './testing/source.ts'

it('closing answers what is in hand, reads no more, says 0x8B and takes nobody in', async () => {
  const pipeline = new RecordingPipeline('hold')
  const test = await startTestSource({}, pipeline)
  const busy = await RawClient.connect(test.port, 'busy', 5)
  const busy311 = await RawClient.connect(test.port, 'busy311', 4)
  const idle = await RawClient.connect(test.port, 'idle', 5)
  const silent = await RawClient.open(test.port)
  for (const client of [busy, busy311]) for (let n = 1; n <= 3; n++) client.publish(n, `${n}`)
  await expect.poll(() => pipeline.pushed.length).toBe(6)
  let isClosed = false
  const closing = test.source.close().then(() => {
    isClosed = true
  })
  await Promise.all([idle.closed(), silent.closed()])
  expect(idle.packets).toEqual([expect.objectContaining({ cmd: 'disconnect', reasonCode: 0x8b })])
  busy.publish(4, 'too late')
  const late = createConnection(test.port, '127.0.0.1')
  const [refusal] = await once(late, 'error')
  expect(refusal).toMatchObject({ code: 'ECONNREFUSED' })
  expect(isClosed).toBe(false)
  pipeline.settleAll(stored)
  await closing
  await Promise.all([busy.closed(), busy311.closed()])
  expect(pipeline.pushed).toHaveLength(6)
  expect(busy.answers).toEqual([1, 2, 3].map((id) => [id, 0]))
  expect(busy.packets.at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: 0x8b })
  expect(busy311.packets.map(({ cmd }) => cmd)).toEqual(['puback', 'puback', 'puback'])
  await test.source.close()
})

it('closing refuses what the pipeline refuses, without PUBACK', async () => {
  const pipeline = new RecordingPipeline('hold')
  const test = await startTestSource({}, pipeline)
  const client = await RawClient.connect(test.port, 'pump-1', 5)
  client.publish(1, 'x')
  await expect.poll(() => pipeline.pushed.length).toBe(1)
  const closing = test.source.close()
  pipeline.settleAll({ kind: 'refused', code: 'shutting_down', message: 'stopping' })
  await closing
  await client.closed()
  expect(client.packets).toEqual([expect.objectContaining({ cmd: 'disconnect', reasonCode: 0x8b })])
})

it('closing waits no longer than a message is held when the event log never answers', async () => {
  const pipeline = new RecordingPipeline('hold')
  const test = await startTestSource({ holdMs: 300 }, pipeline)
  const client = await RawClient.connect(test.port, 'pump-1', 5)
  client.publish(1, 'x')
  await expect.poll(() => pipeline.pushed.length).toBe(1)
  await test.source.close()
  await client.closed()
  expect(client.answers).toEqual([])
})

it('a port in use is named with its variable', async () => {
  await using test = await startTestSource()
  await expect(startTestSource({ port: test.port })).rejects.toMatchObject({
    code: 'BRIDGE_PORT_IN_USE',
    message: expect.stringContaining('BRIDGE_MQTT_PORT'),
  })
})
