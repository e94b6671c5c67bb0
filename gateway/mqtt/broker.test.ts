import { expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import type { Principal } from '../auth/principal.ts'
import { type Link, type LinkSink, startBroker } from './broker.ts'
import type { AcceptedConnect } from './connect.ts'
import { seeded } from './testing/seeded.ts'

const principal: Principal = {
  tenant: 'default',
  device: 'd',
  fleet: false,
  credentialId: 'c',
  operator: false,
  expiresAtMs: Number.POSITIVE_INFINITY,
  allows: () => false,
}
const connect: AcceptedConnect = {
  principal,
  version: 5,
  clientId: 'c',
  isAssigned: false,
  clean: false,
  sessionSeconds: 60,
  isSessionShortened: false,
  keepAliveSeconds: 0,
  isKeepAliveShortened: false,
  maxPacketBytes: 1000,
  receiveMaximum: 65_535,
  topicAliasMaximum: 0,
  wantsProblemInformation: true,
  will: undefined,
}
const sink: LinkSink = {
  onAccepted() {},
  onBrokerPacket() {},
  onBrokerClosed() {},
  fail(error) {
    throw error
  },
}

it('every link ends, in order, however connections of one name come and go', async () => {
  const seed = Date.now() % 1_000_000
  console.info(`links: seed ${seed}`)
  const random = seeded(seed)
  await using broker = await startBroker(silentLog)
  const links: Link[] = []
  const gone: number[] = []
  for (let n = 0; n < 200; n++) {
    const link = broker.connect('default/d/c', connect, sink)
    link.onGone(() => gone.push(n))
    links.push(link)
    for (let ticks = random(6); ticks > 0; ticks--) await new Promise((resolve) => setImmediate(resolve))
    if (random(2) === 0) links[random(links.length)]?.close()
    if (random(4) === 0) link.finish(Buffer.from([0xe0, 0]))
  }
  links.at(-1)?.close()
  await expect.poll(() => gone.length, { message: `seed ${seed}` }).toBe(200)
  expect(gone, `seed ${seed}`).toEqual(Array.from({ length: 200 }, (_, n) => n))
})

it('a link that nobody closes hears of its acceptance', async () => {
  await using broker = await startBroker(silentLog)
  const accepted: boolean[] = []
  const link = broker.connect('default/d/c', connect, { ...sink, onAccepted: (present) => accepted.push(present) })
  await expect.poll(() => accepted).toEqual([false])
  link.close()
  await new Promise<void>((resolve) => link.onGone(resolve))
})
