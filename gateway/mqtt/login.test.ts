import type { IConnackPacket } from 'mqtt-packet'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Authenticator, AuthRefusal, Presented } from '../auth/authenticator.ts'
import { LoginGuard } from '../auth/login-guard.ts'
import type { Principal } from '../auth/principal.ts'
import { readConnect } from './connect.ts'
import { writeControlPacket } from './control-packet.ts'
import { Login } from './login.ts'
import type { Peer } from './peer.ts'
import { connectPacket, RawClient } from './testing/raw-client.ts'
import { startTestSource, TestAuthenticator, type TestSource } from './testing/source.ts'

/** Answers when a test says so. */
class SlowAuthenticator implements Authenticator {
  readonly asked: { presented: Presented; answer: (answer?: AuthRefusal) => void }[] = []
  readonly #inner = new TestAuthenticator()

  authenticate(presented: Presented): Promise<Principal | AuthRefusal> {
    return new Promise((resolve) => {
      this.asked.push({ presented, answer: (answer) => resolve(answer ?? this.#inner.authenticate(presented)) })
    })
  }

  isLive(): boolean {
    return true
  }

  onChange(): () => void {
    return () => {}
  }

  admitDevice(): 'admitted' {
    return 'admitted'
  }
}

const token = `fb_${'x'.repeat(43)}`

/** Knows one real token, of `pump-2`. */
class TokenAuthenticator extends TestAuthenticator {
  override authenticate({ secret, ...presented }: Presented): Principal | AuthRefusal {
    return super.authenticate({ ...presented, secret: secret === token ? 't-pump-2' : secret })
  }
}

let test: TestSource
let authenticator: SlowAuthenticator
const clients: RawClient[] = []

beforeEach(async () => {
  authenticator = new SlowAuthenticator()
  test = await startTestSource({ connectTimeoutMs: 600 }, undefined, { authenticator })
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
})

async function open(version: 4 | 5 = 5, port = test.port): Promise<RawClient> {
  const client = await RawClient.open(port, version)
  clients.push(client)
  return client
}

describe('a login that takes its time', () => {
  it('holds up what is behind CONNECT, and nothing else', async () => {
    const client = await open()
    client.send(connectPacket('pump-1', 5), { cmd: 'pingreq' })
    client.publish(1, 'x')
    await expect.poll(() => authenticator.asked.length).toBe(1)
    expect(client.packets).toEqual([])
    expect(test.pipeline.pushed).toEqual([])
    authenticator.asked[0]?.answer()
    expect(await client.answered(1)).toEqual([[1, 0]])
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(['connack', 'pingresp', 'puback'])
  })

  it('may say no', async () => {
    const client = await open(4)
    client.send(connectPacket('pump-1', 4))
    await expect.poll(() => authenticator.asked.length).toBe(1)
    authenticator.asked[0]?.answer('unknown')
    expect(await client.next('connack')).toMatchObject({ returnCode: 4 })
    await client.closed()
  })

  it('that takes too long ends the connection, and its answer comes to nothing', async () => {
    const client = await open()
    client.send(connectPacket('pump-1', 5))
    await client.closed(1500)
    expect(client.packets).toEqual([])
    authenticator.asked[0]?.answer()
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await test.count('fleetbridge_mqtt_connects_total', { result: 'timeout' })).toBe(1)
    expect(await test.count('fleetbridge_mqtt_connects_total', { result: 'accepted' })).toBe(0)
    expect(await test.count('fleetbridge_mqtt_connections')).toBe(0)
  })

  it('of a client that has gone comes to nothing', async () => {
    const client = await open()
    client.send(connectPacket('pump-1', 5))
    await expect.poll(() => authenticator.asked.length).toBe(1)
    client.socket.resetAndDestroy()
    await expect.poll(() => test.count('fleetbridge_mqtt_connections'), { timeout: 2000 }).toBe(0)
    authenticator.asked[0]?.answer()
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await test.count('fleetbridge_mqtt_connects_total', { result: 'accepted' })).toBe(0)
  })
})

it('a failed CONNECT leaves the live session of the same client id alone', async () => {
  await using own = await startTestSource({})
  for (const version of [4, 5] as const) {
    const live = await RawClient.connect(own.port, `pump-${version}`, version, { clientId: 'same' })
    clients.push(live)
    for (const more of [
      { password: Buffer.from('wrong') },
      { username: 'pump-9' },
      { password: Buffer.from('t-disabled') },
      { clientId: 'same', will: { topic: 'devices/x/y', payload: Buffer.from(''), qos: 0 as const, retain: false } },
    ]) {
      const client = await open(version, own.port)
      client.send(connectPacket(`pump-${version}`, version, { clientId: 'same', ...more }))
      expect(await client.next('connack')).not.toMatchObject(version === 5 ? { reasonCode: 0 } : { returnCode: 0 })
      await client.closed()
    }
    // Another device may call itself the same, and is another client.
    const other = await RawClient.connect(own.port, `other-${version}`, version, { clientId: 'same', clean: false })
    clients.push(other)
    live.publish(1, 'still here')
    expect(await live.answered(1)).toEqual([[1, 0]])
    expect(live.isClosed).toBe(false)
  }
  expect(await own.count('fleetbridge_mqtt_closed_total', { reason: 'taken_over' })).toBe(0)
})

describe('after failures', () => {
  const wrongToken = `fb_${'y'.repeat(43)}`
  const loginGuard = () => new LoginGuard('3:60')

  /** @returns the return code, and after how many milliseconds it came */
  async function login(port: number, device: string, secret: string): Promise<[number, number]> {
    const client = await open(4, port)
    const startedMs = performance.now()
    client.send(connectPacket(device, 4, { clientId: `c-${startedMs}`, password: Buffer.from(secret) }))
    const connack = (await client.next('connack')) as IConnackPacket
    return [connack.returnCode ?? -1, performance.now() - startedMs]
  }

  it('a refusal is told late, within the time of a CONNECT; a token that is right is let in at once', async () => {
    const more = { authenticator: new TokenAuthenticator(), loginGuard: loginGuard() }
    await using own = await startTestSource({ connectTimeoutMs: 1500 }, undefined, more)
    for (let n = 0; n < 2; n++) expect((await login(own.port, 'pump-1', wrongToken))[1]).toBeLessThan(800)
    const [code, afterMs] = await login(own.port, 'pump-1', wrongToken)
    expect(code).toBe(4)
    expect(afterMs).toBeGreaterThan(1100)
    const [right, soonMs] = await login(own.port, 'pump-2', token)
    expect(right).toBe(0)
    expect(soonMs).toBeLessThan(800)
  })

  it('the next guess of a password waits before anybody looks at it', async () => {
    const own = loginGuard()
    for (let n = 0; n < 3; n++) own.failed('192.0.2.7', 'pump-1', performance.now())
    const asked: Presented[] = []
    const spy: Authenticator = new TestAuthenticator()
    const authenticator = Object.assign(spy, {
      authenticate(presented: Presented) {
        asked.push(presented)
        return 'unknown' as const
      },
    })
    const begin = (secret: string) => {
      const bytes = writeControlPacket(connectPacket('pump-1', 4, { password: Buffer.from(secret) }), 4) as Buffer
      const read = readConnect(bytes, 2)
      if ('result' in read) throw new Error(read.result)
      const peer: Peer = { address: '192.0.2.7', transport: 'tcp', certificate: undefined }
      const login = new Login(authenticator, own, { onLogin() {}, fail() {} }, peer, read)
      login.start()
      return login
    }
    const waiting = begin('password')
    expect(asked).toEqual([])
    begin(wrongToken)
    expect(asked).toEqual([{ username: 'pump-1', secret: wrongToken, certificate: undefined }])
    waiting.cancel()
  })
})

describe('Login', () => {
  const peer: Peer = { address: '192.0.2.1', transport: 'tls', certificate: undefined }
  const certificate = {
    fingerprint: 'f',
    issuerFingerprint: 'i',
    commonName: 'pump-1',
    alternativeNames: [],
    expiresAtMs: Number.POSITIVE_INFINITY,
  }

  function presentedBy(more: object, from: Peer = peer): Presented | undefined {
    const bytes = writeControlPacket({ ...connectPacket('pump-1', 5), ...more }, 5) as Buffer
    const read = readConnect(bytes, 2)
    if ('result' in read) throw new Error(read.result)
    const own = new SlowAuthenticator()
    new Login(own, new LoginGuard('none'), { onLogin() {}, fail() {} }, from, read).start()
    return own.asked[0]?.presented
  }

  it('shows user name and password, or the user name as a token, or the certificate', () => {
    expect(presentedBy({})).toMatchObject({ username: 'pump-1', secret: 't-pump-1', certificate: undefined })
    expect(presentedBy({ password: undefined })).toMatchObject({ username: undefined, secret: 'pump-1' })
    expect(presentedBy({ password: undefined }, { ...peer, certificate })).toEqual({
      username: 'pump-1',
      secret: undefined,
      certificate,
    })
    expect(presentedBy({ username: token, password: undefined }, { ...peer, certificate })).toMatchObject({
      username: undefined,
      secret: token,
    })
    expect(presentedBy({ username: undefined, password: undefined }, { ...peer, certificate })).toMatchObject({
      username: undefined,
      secret: undefined,
    })
  })
})
