import { expect, it } from 'vitest'
import { OfflineQueues, type Persistence } from './offline-queues.ts'
import { RetainedMessages } from './retained.ts'

type Kept = Parameters<Persistence['outgoingUpdate']>[1]

/** As Aedes' own: a list for each client, found by packet id. */
class MemoryPersistence implements Persistence {
  readonly queues = new Map<string, Kept[]>()
  async outgoingEnqueueCombi(subscriptions: readonly { clientId: string }[], packet: Kept): Promise<void> {
    for (const { clientId } of subscriptions)
      this.queues.set(clientId, [...(this.queues.get(clientId) ?? []), { ...packet }])
  }
  async outgoingUpdate({ id }: { id: string }, packet: Kept): Promise<void> {
    const queue = this.queues.get(id) ?? []
    const at = queue.findIndex(({ messageId }) => messageId === undefined || messageId === packet.messageId)
    if (at >= 0) queue[at] = packet
  }
  async outgoingClearMessageId({ id }: { id: string }, packet: Kept): Promise<Kept | undefined> {
    const queue = this.queues.get(id) ?? []
    const at = queue.findIndex(({ messageId }) => messageId === packet.messageId)
    return at < 0 ? undefined : queue.splice(at, 1)[0]
  }
  async *outgoingStream({ id }: { id: string }): AsyncIterable<Kept> {
    yield* [...(this.queues.get(id) ?? [])]
  }
}

const message = (bytes: number): Kept => ({ cmd: 'publish', payload: Buffer.alloc(bytes) })

it('a session that is away keeps 1,000 messages or 1 MiB, and has room again for what it gave back', async () => {
  let dropped = 0
  const persistence = new MemoryPersistence()
  const queues = new OfflineQueues(persistence, {
    onDropped: () => dropped++,
    numberOfCurrent: () => undefined,
    onKnown: () => {},
  })
  const both = [{ clientId: 'a' }, { clientId: '__proto__' }]
  for (let n = 0; n < 1100; n++) await persistence.outgoingEnqueueCombi(both, message(10))
  expect([dropped, persistence.queues.get('a')?.length, persistence.queues.get('__proto__')?.length]).toEqual([
    200, 1000, 1000,
  ])
  await queues.empty('a')
  expect(persistence.queues.get('a')).toEqual([])
  for (let n = 0; n < 20; n++) await persistence.outgoingEnqueueCombi([{ clientId: 'a' }], message(100_000))
  expect(persistence.queues.get('a')?.length).toBe(10)
  // QoS 2: the PUBREL takes the place of the message, whose bytes come back with it.
  for (let id = 1; id <= 10; id++) {
    await persistence.outgoingUpdate({ id: 'a' }, { ...message(100_000), messageId: id })
    await persistence.outgoingUpdate({ id: 'a' }, { cmd: 'pubrel', messageId: id })
    if (id < 10) await persistence.outgoingClearMessageId({ id: 'a' }, { cmd: 'pubcomp', messageId: id })
  }
  await persistence.outgoingEnqueueCombi([{ clientId: 'a' }], message(900_000))
  expect(persistence.queues.get('a')?.length).toBe(2)
})

it('retained messages are bounded for each device, and all together', () => {
  const retained = new RetainedMessages(100)
  const take = (topic: string, bytes: number, owner = 'a', seconds = 0) =>
    retained.take(topic, Buffer.alloc(bytes), owner, seconds)
  expect(take('t/__proto__', 80)).toBe(true)
  expect(take('t/2', 30)).toBe(false)
  expect(take('t/2', 30, 'b')).toBe(true)
  expect(take('t/__proto__', 89)).toBe(true) // in place of its own
  expect(take('t/__proto__', 90)).toBe(false)
  expect(retained.countOf('t')).toBe(2)
  expect(take('t/__proto__', 0)).toBe(true)
  expect(take('t/3', 97)).toBe(true)
  expect(take('t/3', 0)).toBe(true)
  let owners = 0
  for (let n = 0; n < 1000; n++) if (take(`u/${n}`, 90, `owner-${n}`)) owners++
  expect(owners).toBeLessThan(300)
})

it('what has expired makes room', async () => {
  const retained = new RetainedMessages(100)
  expect(retained.take('t/1', Buffer.alloc(90), 'a', 0.02)).toBe(true)
  expect(retained.take('t/2', Buffer.alloc(90), 'a', 0)).toBe(false)
  await new Promise((resolve) => setTimeout(resolve, 30))
  expect(retained.take('t/2', Buffer.alloc(90), 'a', 0)).toBe(true)
})
