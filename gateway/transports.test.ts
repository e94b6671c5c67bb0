import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { generate } from 'mqtt-packet'
import { afterAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { WebSocket } from 'ws'
import { TestAuthority } from '#platform/testing/certificates.ts'
import { connectPacket } from './mqtt/testing/raw-client.ts'
import { replaceFiles, startTransports } from './transports.fixture.ts'

const authority = new TestAuthority()
const strangers = new TestAuthority('another CA')
afterAll(() => {
  authority[Symbol.dispose]()
  strangers[Symbol.dispose]()
})

const reading = '{"values":{"t":1}}'
const topic = 'devices/me/telemetry'
const byCertificate = { username: undefined as unknown as string, password: undefined as unknown as string }

interface Answer {
  readonly status: number
  readonly text: string
}

function post(
  port: number,
  headers: Record<string, string>,
  pem: { cert?: string; key?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        port,
        host: '127.0.0.1',
        servername: 'localhost',
        path: '/v1/telemetry',
        method: 'POST',
        ca: authority.own.cert,
        agent: false,
        headers,
        ...pem,
      },
      (response) => {
        let text = ''
        response.on('data', (chunk) => (text += chunk))
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      },
    )
    asked.on('error', reject)
    asked.end(reading)
  })
}

describe.each(['mqtt', 'mqtts', 'ws', 'wss'] as const)('%s', (transport) => {
  it.each([4, 5] as const)('carries MQTT %d, small and large, and refuses who is unknown', async (protocolVersion) => {
    const { connect, pipeline } = await startTransports(authority)
    const client = await connect(transport, { protocolVersion })
    const large = `{"values":{"t":"${'x'.repeat(300_000)}"}}`
    await Promise.all([reading, large, reading].map((payload) => client.publishAsync(topic, payload, { qos: 1 })))
    expect(pipeline.payloads).toEqual([reading, large, reading])
    expect(pipeline.pushed[0]?.ingress).toMatchObject({ principal: { device: 'pump-1' }, source: 'mqtt' })
    await expect(connect(transport, { protocolVersion, password: 'wrong' })).rejects.toMatchObject({
      code: protocolVersion === 5 ? 0x86 : 4,
    })
  })
})

describe('client certificates', () => {
  it.each(['mqtts', 'wss'] as const)('%s: one of our authorities is a credential', async (transport) => {
    const { connect, pipeline } = await startTransports(authority)
    const { cert, key } = authority.client('pump-7')
    const client = await connect(transport, { cert, key, ...byCertificate })
    await client.publishAsync(topic, reading, { qos: 1 })
    expect(pipeline.pushed[0]?.ingress.principal.device).toBe('pump-7')
  })

  it.each(['mqtts', 'wss'] as const)(
    '%s: a stranger’s is as none: refused, but a token beside it is good',
    async (transport) => {
      const { connect, authenticator } = await startTransports(authority)
      const { cert, key } = strangers.client('pump-7')
      await expect(connect(transport, { cert, key, ...byCertificate })).rejects.toThrow()
      await expect(connect(transport, byCertificate)).rejects.toThrow()
      await connect(transport, { cert, key })
      expect(authenticator.shown.map(({ certificate }) => certificate)).toEqual([undefined, undefined, undefined])
    },
  )

  it('HTTPS: counts without Authorization, and not for a browser’s page', async () => {
    const { http, pipeline, authenticator } = await startTransports(authority)
    const pem = authority.client('pump-7', 'DNS:pump-7,URI:urn:pump:7')
    expect((await post(http.tlsPort, {}, pem)).status).toBe(202)
    expect(pipeline.pushed[0]?.ingress.principal.device).toBe('pump-7')
    expect(authenticator.shown[0]?.certificate).toMatchObject({
      commonName: 'pump-7',
      alternativeNames: ['pump-7', 'urn:pump:7'],
      fingerprint: expect.stringMatching(/^[\w+/]{43}=$/),
    })
    expect((await post(http.tlsPort, { authorization: 'Bearer t-pump-1' }, pem)).status).toBe(202)
    expect(pipeline.pushed[1]?.ingress.principal.device, 'a token says more').toBe('pump-1')
    expect((await post(http.tlsPort, { origin: 'https://evil.example' }, pem)).status).toBe(401)
    expect((await post(http.tlsPort, {}, strangers.client('pump-7'))).status).toBe(401)
    expect((await post(http.tlsPort, {})).status).toBe(401)
  })

  it('a resumed TLS session has its certificate', async () => {
    const { mqtt, authenticator } = await startTransports(authority)
    const { cert, key } = authority.client('pump-7')
    const options = {
      port: mqtt.tlsPort,
      host: 'localhost',
      ca: authority.own.cert,
      cert,
      key,
      maxVersion: 'TLSv1.2' as const,
    }
    const first = connectTls(options)
    const [session] = (await once(first, 'session')) as [Buffer]
    first.destroy()
    const second = connectTls({ ...options, session })
    onTestFinished(() => void second.destroy())
    await once(second, 'secureConnect')
    expect(second.isSessionReused()).toBe(true)
    const { username: _user, password: _word, ...bare } = connectPacket('pump-7', 4)
    second.write(generate(bare))
    expect(((await once(second, 'data')) as [Buffer])[0][3]).toBe(0)
    expect(authenticator.shown[0]?.certificate?.commonName).toBe('pump-7')
  })
})

describe('new certificate files', () => {
  it('serve new connections within moments, and live sessions go on; a bad file changes nothing', async () => {
    const { connect, pipeline, mqtt, http, certFile, keyFile } = await startTransports(authority)
    const clients = [await connect('mqtts'), await connect('wss', { clientId: 'second' })]
    const names = () => Promise.all([mqtt.tlsPort, http.tlsPort].map(commonNameAt))
    expect(await names()).toEqual(['localhost', 'localhost'])
    replaceFiles({ certFile, keyFile }, authority.server('DNS:localhost', 'renewed'))
    await vi.waitFor(async () => expect(await names()).toEqual(['renewed', 'renewed']), { timeout: 3000, interval: 20 })
    replaceFiles({ certFile, keyFile }, { cert: authority.server().cert, key: authority.server().key })
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(await names(), 'a key that does not fit').toEqual(['renewed', 'renewed'])
    for (const client of clients) await client.publishAsync(topic, reading, { qos: 1 })
    expect(pipeline.payloads).toEqual([reading, reading])
  })

  it('end what their predecessors let in: a TLS session does not outlive the authority of its certificate', async () => {
    const { mqtt, caFile } = await startTransports(authority)
    const { cert, key } = authority.client('pump-7')
    const options = {
      port: mqtt.tlsPort,
      host: 'localhost',
      ca: authority.own.cert,
      cert,
      key,
      maxVersion: 'TLSv1.2' as const,
    }
    const first = connectTls(options)
    const [session] = (await once(first, 'session')) as [Buffer]
    first.destroy()
    const isReused = async () => {
      const socket = connectTls({ ...options, session })
      await once(socket, 'secureConnect')
      const isSame = socket.isSessionReused()
      socket.destroy()
      return isSame
    }
    expect(await isReused()).toBe(true)
    writeFileSync(caFile, strangers.own.cert)
    await vi.waitUntil(async () => !(await isReused()), { timeout: 3000, interval: 20 })
  })

  async function commonNameAt(port: number): Promise<string | undefined> {
    const socket = connectTls({ port, host: 'localhost', ca: authority.own.cert })
    await once(socket, 'secureConnect')
    const name = socket.getPeerCertificate().subject.CN
    socket.destroy()
    return String(name)
  }
})

describe('WebSocket', () => {
  it.each([
    ['text frames', (socket: WebSocket) => socket.send('hello'), 1003],
    ['a frame beyond all packets', (socket: WebSocket) => socket.send(Buffer.alloc(3_000_000)), 1009],
    ['bytes before CONNECT beyond all CONNECTs', (socket: WebSocket) => socket.send(Buffer.alloc(200_000, 0x10)), 1006],
    ['what is no CONNECT', (socket: WebSocket) => socket.send(Buffer.from([0xc0, 0])), 1000],
  ])('%s end the connection', async (_what, send, code) => {
    const { urls, connect } = await startTransports(authority)
    const bystander = await connect('ws')
    const socket = new WebSocket(urls.ws, 'mqtt')
    onTestFinished(() => socket.terminate())
    socket.on('error', () => {})
    await once(socket, 'open')
    send(socket)
    expect(((await once(socket, 'close')) as [number])[0]).toBe(code)
    await bystander.publishAsync(topic, reading, { qos: 1 })
  })

  it('packets may span frames and share one, and PUBACKs of a group come as one frame', async () => {
    const { urls, pipeline } = await startTransports(authority)
    const socket = new WebSocket(urls.ws, ['mqttv3.1', 'mqtt'])
    onTestFinished(() => socket.terminate())
    const frames: Buffer[] = []
    socket.on('message', (data: Buffer) => frames.push(data))
    await once(socket, 'open')
    expect(socket.protocol).toBe('mqtt')
    const bytes = Buffer.concat([
      generate(connectPacket('pump-1', 4)),
      ...[1, 2, 3].map((messageId) =>
        generate({ cmd: 'publish', topic, payload: reading, qos: 1, messageId, dup: false, retain: false }),
      ),
    ])
    for (let at = 0; at < 20; at++) socket.send(bytes.subarray(at, at + 1))
    socket.send(bytes.subarray(20))
    await vi.waitUntil(() => Buffer.concat(frames).length >= 16, { timeout: 3000, interval: 2 })
    expect(frames.map((frame) => frame.toString('hex'))).toEqual(['20020000', '400200014002000240020003'])
    expect(pipeline.payloads).toEqual([reading, reading, reading])
  })

  it('answers pings, but ends the connection of a client that does not read the answers', async () => {
    const { urls } = await startTransports(authority)
    const socket = new WebSocket(urls.ws, 'mqtt')
    socket.on('error', () => {})
    await once(socket, 'open')
    socket.ping('hi')
    expect(String(((await once(socket, 'pong')) as [Buffer])[0])).toBe('hi')
    socket.pause()
    const closed = once(socket, 'close')
    const timer = setInterval(() => {
      for (let n = 0; n < 2000; n++) socket.ping(Buffer.alloc(125), true, () => {})
    }, 1)
    await vi.waitUntil(() => socket.bufferedAmount > 8_000_000 || socket.readyState !== WebSocket.OPEN, {
      timeout: 4000,
    })
    clearInterval(timer)
    socket.resume()
    await closed
  })

  it.each([
    ['no subprotocol', '/mqtt', { 'sec-websocket-protocol': '' }, 400],
    ['another subprotocol', '/mqtt', { 'sec-websocket-protocol': 'chat' }, 400],
    ['no key', '/mqtt', { 'sec-websocket-key': 'short' }, 400],
    ['another version', '/mqtt', { 'sec-websocket-version': '7' }, 400],
    ['another path', '/elsewhere', {}, 404],
    ['no upgrade', '/mqtt', { upgrade: 'h2c' }, 426],
  ])('%s: refused', async (_what, path, headers, status) => {
    const { http } = await startTransports(authority)
    const socket = connectTcp(http.port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    const all = {
      host: 'x',
      connection: 'upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-version': '13',
      'sec-websocket-protocol': 'mqtt',
      ...headers,
    }
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
    socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expect(String(answer)).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
  })

  it('a request that offers h2c, as Java’s client does, is an ordinary one', async () => {
    const { http, pipeline } = await startTransports(authority)
    const socket = connectTcp(http.port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    const head = 'Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB'
    socket.write(
      `POST /v1/telemetry HTTP/1.1\r\n${head}\r\nAuthorization: Bearer t-pump-1\r\nContent-Length: 18\r\n\r\n${reading}`,
    )
    expect(String(((await once(socket, 'data')) as [Buffer])[0])).toMatch(/^HTTP\/1.1 202 /)
    expect(pipeline.payloads).toEqual([reading])
  })
})

describe('bounds', () => {
  it.each(['ws', 'wss'] as const)(
    '%s: what is not settled holds the client back, and all of it arrives',
    async (transport) => {
      const { connect, pipeline, http } = await startTransports(authority)
      pipeline.verdict = undefined
      const client = await connect(transport)
      const payload = `{"values":{"t":"${'x'.repeat(40_000)}"}}`
      const sent = Array.from({ length: 200 }, () => client.publishAsync(topic, payload, { qos: 1 }))
      await vi.waitUntil(() => pipeline.pushed.length >= 50, { timeout: 3000, interval: 2 })
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(pipeline.pushed.length, '2 MiB in hand, and no more is read').toBeLessThan(60)
      expect((await post(http.tlsPort, {})).status, 'others are served').toBe(401)
      pipeline.verdict = () => ({ kind: 'stored' })
      pipeline.settleAll()
      await Promise.all(sent)
      expect(pipeline.pushed).toHaveLength(200)
    },
  )

  it('connections are counted over all transports', async () => {
    const { connect } = await startTransports(authority, { mqtt: { maxConnectionsPerAddress: 3 } })
    await connect('mqtts', { clientId: 'a' })
    await connect('ws', { clientId: 'b' })
    const third = await connect('mqtt', { clientId: 'c' })
    for (const transport of ['mqtt', 'mqtts', 'ws', 'wss'] as const)
      await expect(connect(transport, { clientId: 'd', connectTimeout: 1000 }), transport).rejects.toThrow()
    await third.endAsync()
    await connect('wss', { clientId: 'd' })
  })

  it('plain listeners can be off', async () => {
    const { mqtt, http, connect } = await startTransports(authority, { mqtt: { plain: false }, http: { plain: false } })
    expect([mqtt.port, http.port]).toEqual([0, 0])
    await connect('mqtts')
    await connect('wss', { clientId: 'second' })
    expect((await post(http.tlsPort, { authorization: 'Bearer t-pump-1' })).status).toBe(202)
  })

  it('TLS below 1.2, and bytes that are no TLS, are turned away', async () => {
    const { mqtt, http, connect } = await startTransports(authority)
    for (const port of [mqtt.tlsPort, http.tlsPort]) {
      const old = connectTls({
        port,
        host: 'localhost',
        ca: authority.own.cert,
        minVersion: 'TLSv1',
        maxVersion: 'TLSv1.1',
        ciphers: 'DEFAULT@SECLEVEL=0',
      })
      expect(await endOf(old)).toBe('error')
      const garbage = connectTcp(port, '127.0.0.1')
      garbage.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      await endOf(garbage)
    }
    await connect('mqtts')
  })

  function endOf(socket: TLSSocket | ReturnType<typeof connectTcp>): Promise<string> {
    return new Promise((resolve) => {
      socket.on('error', () => resolve('error'))
      socket.on('close', () => resolve('close'))
      socket.resume()
    })
  }
})

it('behind a proxy that tells it, the client’s own address is what failed logins count for', async () => {
  const { urls, http } = await startTransports(authority, { from: ['127.0.0.1'], failures: '2:60' })
  const login = async (address: string, token: string) => {
    const socket = connectTcp(http.port, '127.0.0.1')
    socket.write(`PROXY TCP4 ${address} 10.0.0.1 4000 80\r\n`)
    socket.write(
      `POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Length: 18\r\n\r\n${reading}`,
    )
    const [answer] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    return Number(String(answer).slice(9, 12))
  }
  const wrong = `fb_${'A'.repeat(43)}`
  expect([await login('203.0.113.7', wrong), await login('203.0.113.7', wrong)]).toEqual([401, 401])
  expect([await login('203.0.113.7', wrong), await login('203.0.113.8', wrong)]).toEqual([429, 401])
  expect(urls.mqtt).toMatch(/^mqtt:/)
})
