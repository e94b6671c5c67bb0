import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { ClientAddresses } from './client-addresses.ts'
import { TestAuthority } from './testing/certificates.ts'

const authority = new TestAuthority()
const pem = authority.server()
afterAll(() => authority[Symbol.dispose]())

const line = 'PROXY TCP4 203.0.113.7 127.0.0.1 49152 1883\r\n'
const binary = Buffer.from('0d0a0d0a000d0a515549540a2111000ccb0071077f000001c000075b', 'hex')
const local = Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex')

/** Each says the client's address, and what it was sent. */
const servers: Record<string, (addresses: ClientAddresses) => Server> = {
  MQTT: (addresses) =>
    createServer((socket) => socket.once('data', (chunk) => socket.end(`${addresses.of(socket)} ${chunk}`))),
  MQTTS: (addresses) =>
    createTlsServer(pem, (socket) => socket.once('data', (chunk) => socket.end(`${addresses.of(socket)} ${chunk}`))),
  HTTP: (addresses) => createHttpServer((request, response) => response.end(`${addresses.of(request.socket)} ping`)),
  HTTPS: (addresses) =>
    createHttpsServer(pem, (request, response) => response.end(`${addresses.of(request.socket)} ping`)),
}

async function start(name: string, from: readonly string[]): Promise<number> {
  const addresses = new ClientAddresses(from)
  const server = (servers[name] as (addresses: ClientAddresses) => Server)(addresses)
  addresses.guard(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** What the server says to a client whose connection begins with these bytes, and a ping behind them. */
async function said(
  name: string,
  port: number,
  pieces: readonly (Buffer | string)[],
  together: boolean,
): Promise<string> {
  const raw = connect({ port, host: '127.0.0.1', noDelay: true })
  onTestFinished(() => void raw.destroy())
  raw.on('error', () => {})
  const closed = new Promise((resolve) => raw.once('close', resolve))
  await once(raw, 'connect')
  if (together) raw.cork()
  for (const piece of pieces) {
    raw.write(piece)
    if (!together) await new Promise((resolve) => setTimeout(resolve, 2))
  }
  const isTls = name.endsWith('S')
  const socket: Socket | TLSSocket = isTls
    ? connectTls({ socket: raw, ca: authority.own.cert, host: 'localhost' })
    : raw
  socket.on('error', () => {})
  socket.write(name.startsWith('HTTP') ? 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' : 'ping')
  if (together) setTimeout(() => raw.uncork(), 20)
  let text = ''
  socket.on('data', (chunk) => (text += chunk))
  await closed
  return text
}

describe.each(Object.keys(servers))('%s', (name) => {
  it.each([
    ['version 1', [line], '203.0.113.7'],
    ['version 2', [binary], '203.0.113.7'],
    ['LOCAL', [local], '127.0.0.1'],
    ['in pieces', [line.slice(0, 9), line.slice(9, 40), line.slice(40)], '203.0.113.7'],
    ['version 2 in pieces', [binary.subarray(0, 5), binary.subarray(5, 17), binary.subarray(17)], '203.0.113.7'],
  ])('a listed proxy tells the address: %s', async (_how, pieces, address) => {
    const port = await start(name, ['127.0.0.0/8', 'fd00::/8'])
    expect(await said(name, port, pieces, false)).toContain(`${address} ping`)
    expect(await said(name, port, pieces, true), 'with the first bytes behind it').toContain(`${address} ping`)
  })

  it('a listed proxy without a header is not served', async () => {
    expect(await said(name, await start(name, ['127.0.0.1']), [], false)).not.toContain('ping')
  })

  it('nobody else can choose an address', async () => {
    const port = await start(name, ['10.0.0.0/8'])
    expect(await said(name, port, [], false)).toContain('127.0.0.1 ping')
    expect(await said(name, port, [line], false)).not.toMatch(/^203|\n203/)
  })
})

it('asks whether the connection may stay before anything else, with the address that was told', async () => {
  const addresses = new ClientAddresses(['127.0.0.1'])
  const server = createServer(() => expect.unreachable())
  const asked: string[] = []
  addresses.guard(server, (address) => {
    asked.push(address)
    return false
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  expect(await said('MQTT', (server.address() as AddressInfo).port, [line], false)).toBe('')
  expect(asked).toEqual(['203.0.113.7'])
})

it('a server that closes does not wait for headers', async () => {
  const addresses = new ClientAddresses(['127.0.0.1'])
  const server = createServer()
  const end = addresses.guard(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  await Promise.all([once(socket, 'connect'), once(server, 'connection')])
  socket.write('PROX')
  const closed = new Promise((resolve) => server.close(resolve))
  end()
  await closed
})

it.each(['10.0.0.0/33', '10.0.0.0/', 'example.com', '10.0.0.0/8/8', '::1/129', ''])('%j is no proxy', (text) => {
  expect(() => new ClientAddresses([text])).toThrow(
    expect.objectContaining({ code: 'BRIDGE_CONFIG_INVALID', message: expect.stringContaining('BRIDGE_PROXY_FROM') }),
  )
})
