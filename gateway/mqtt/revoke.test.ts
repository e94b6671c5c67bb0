import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { AuthRefusal, Presented } from '../auth/authenticator.ts'
import type { Principal } from '../auth/principal.ts'
import { connectPacket, RawClient } from './testing/raw-client.ts'
import { RecordingPipeline } from './testing/recording-pipeline.ts'
import { startTestSource, TestAuthenticator, type TestSource } from './testing/source.ts'

/** Credentials of devices called `soon-…` end after 300 ms. */
class EndingAuthenticator extends TestAuthenticator {
  override authenticate(presented: Presented): Principal | AuthRefusal {
    const answer = super.authenticate(presented)
    if (typeof answer === 'string' || !answer.device.startsWith('soon-')) return answer
    return { ...answer, expiresAtMs: Date.now() + 300 }
  }
}

let test: TestSource
let authenticator: EndingAuthenticator
let pipeline: RecordingPipeline
const clients: RawClient[] = []
const will = { topic: 'devices/me/telemetry', payload: Buffer.from('gone'), qos: 0 as const, retain: false }

beforeEach(async () => {
  authenticator = new EndingAuthenticator()
  pipeline = new RecordingPipeline()
  test = await startTestSource({}, pipeline, { authenticator })
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
  expect(authenticator.listeners).toBe(0)
})

async function connect(device: string, version: 4 | 5, more = {}): Promise<RawClient> {
  const client = await RawClient.connect(test.port, device, version, more)
  clients.push(client)
  return client
}

describe('a revoked device', () => {
  it('is disconnected at once, and nobody else', async () => {
    const [modern, old, other] = [await connect('pump-1', 5), await connect('pump-2', 4), await connect('pump-3', 5)]
    authenticator.revoke('pump-1', 'pump-2')
    await Promise.all([modern.closed(1500), old.closed(1500)])
    expect(modern.packets).toEqual([
      expect.objectContaining({
        cmd: 'disconnect',
        reasonCode: 0x87,
        properties: { reasonString: 'the credential is revoked, expired or disabled' },
      }),
    ])
    expect(old.packets).toEqual([])
    other.publish(1, 'x')
    expect(await other.answered(1)).toEqual([[1, 0]])
    expect(await test.count('fleetbridge_mqtt_closed_total', { reason: 'revoked' })).toBe(2)
  })

  it('hears what was answered already, and what it has in hand goes on', async () => {
    pipeline.verdict = undefined
    const client = await connect('pump-1', 5)
    client.publish(1, 'first')
    client.publish(2, 'second')
    await expect.poll(() => pipeline.waiting.length).toBe(2)
    pipeline.settle(0)
    authenticator.revoke('pump-1')
    await client.closed(1500)
    expect(client.answers).toEqual([[1, 0]])
    expect(pipeline.waiting.map(({ ingress }) => ingress.payload.toString())).toEqual(['second'])
  })

  it('has no last words: its will is not published', async () => {
    const [gone, stays] = [await connect('pump-1', 4, { will }), await connect('pump-2', 4, { will })]
    authenticator.revoke('pump-1')
    await gone.closed(1500)
    stays.destroy()
    await expect.poll(() => pipeline.pushed.length).toBe(1)
    expect(pipeline.pushed[0]?.ingress.principal.device).toBe('pump-2')
  })

  it('does not come back', async () => {
    await connect('pump-1', 5)
    authenticator.revoke('pump-1')
    const client = await RawClient.open(test.port, 5)
    clients.push(client)
    client.send(connectPacket('pump-1', 5))
    expect(await client.next('connack')).toMatchObject({ reasonCode: 0x87 })
  })

  it('is turned away also when it was revoked while its CONNECT waited', async () => {
    let client = await connect('flappy', 5)
    for (let n = 0; n < 3; n++) client = await connect('flappy', 5) // the next one has to wait
    const late = await RawClient.open(test.port, 5)
    clients.push(late)
    late.send(connectPacket('flappy', 5))
    await new Promise((resolve) => setTimeout(resolve, 100))
    authenticator.revoke('flappy')
    await client.closed(1500)
    expect(await late.next('connack')).toMatchObject({ reasonCode: 0x87 })
  })
})

it('a credential that ends takes its connection with it', async () => {
  const [soon, later] = [await connect('soon-1', 5), await connect('pump-1', 5)]
  await soon.closed(2500)
  expect(soon.packets).toEqual([expect.objectContaining({ cmd: 'disconnect', reasonCode: 0x87 })])
  expect(later.isClosed).toBe(false)
})
