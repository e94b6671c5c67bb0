import { type AddressInfo, createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { HttpConnection } from './http-connection.ts'

const open: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

/** A TCP server that answers each chunk it gets as it is told, and a connection to it. */
async function peer(onData: (socket: Socket, text: string, connection: number) => void) {
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    const mine = ++connections
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (data) => onData(socket, data.toString('latin1'), mine))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const connection = new HttpConnection('127.0.0.1', (server.address() as AddressInfo).port)
  open.push(async () => {
    connection.close()
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  const ask = (request = 'POST / HTTP/1.1\r\n\r\n') =>
    new Promise<{ status: number; body: string; head: string }>((resolve) => {
      connection.send(request, (status, head, body) => resolve({ status, head, body }))
    })
  return { ask, connection, connections: () => connections, sockets }
}

const ok = 'HTTP/1.1 202 Accepted\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\ngrün 1'

describe('reads an answer', () => {
  it('that comes whole, several times on one connection', async () => {
    const { ask, connections } = await peer((socket) => socket.write(ok))
    for (let count = 0; count < 3; count++) expect(await ask()).toMatchObject({ status: 202, body: 'grün 1' })
    expect(connections()).toBe(1)
  })

  it('that comes byte by byte', async () => {
    const { ask } = await peer((socket) => {
      const bytes = Buffer.from(ok)
      for (let at = 0; at < bytes.length; at++) setTimeout(() => socket.write(bytes.subarray(at, at + 1)), at)
    })
    expect(await ask()).toMatchObject({ status: 202, body: 'grün 1' })
  })

  it.each([
    ['no body', 'HTTP/1.1 204 No Content\r\n\r\n', 204, ''],
    ['an interim answer first', `HTTP/1.1 100 Continue\r\n\r\n${ok}`, 202, 'grün 1'],
    ['HTTP/1.0', ok.replace('1.1', '1.0'), 202, 'grün 1'],
    [
      'chunks',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n',
      200,
      '2\r\nab\r\n1\r\nc\r\n0\r\n\r\n',
    ],
  ])('with %s', async (_what, bytes, status, body) => {
    const { ask, connections } = await peer((socket) => socket.write(bytes))
    expect(await ask()).toMatchObject({ status, body })
    expect(await ask()).toMatchObject({ status, body })
    expect(connections()).toBe(1)
  })

  it('that ends with its connection', async () => {
    const { ask, connections } = await peer((socket) => socket.end('HTTP/1.1 200 OK\r\n\r\nall of it'))
    expect(await ask()).toMatchObject({ status: 200, body: 'all of it' })
    expect(await ask()).toMatchObject({ status: 200, body: 'all of it' })
    expect(connections()).toBe(2)
  })

  it('after which the other side closes, and then uses another connection', async () => {
    const { ask, connections } = await peer((socket) => socket.write(ok.replace('\r\n', '\r\nConnection: close\r\n')))
    expect((await ask()).status).toBe(202)
    expect((await ask()).status).toBe(202)
    expect(connections()).toBe(2)
  })
})

describe('says what went wrong', () => {
  it('when nobody listens', async () => {
    const answer = await new Promise((resolve) => {
      new HttpConnection('127.0.0.1', 1).send('x', (status, _head, body) => resolve([status, body]))
    })
    expect(answer).toEqual([0, 'ECONNREFUSED'])
  })

  it('when the other side speaks no HTTP, or no end', async () => {
    const { ask } = await peer((socket, _text, connection) => {
      if (connection === 1) socket.write('SSH-2.0-OpenSSH_9.6\r\n')
      else socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}`)
    })
    expect(await ask()).toMatchObject({ status: 0, body: 'not HTTP' })
    expect(await ask()).toMatchObject({ status: 0, body: 'not HTTP' })
  })

  it('when the connection ends before the answer, and goes on with another', async () => {
    const { ask } = await peer((socket, _text, connection) => {
      if (connection === 1) socket.end('HTTP/1.1 202 Acc')
      else socket.write(ok)
    })
    expect(await ask()).toMatchObject({ status: 0, body: 'ECONNRESET' })
    expect((await ask()).status).toBe(202)
  })

  it('when the answer does not come in time', async () => {
    const { ask, connection } = await peer(() => {})
    const answer = ask()
    connection.expire(performance.now() + 10_000, 15_000) // not yet
    setTimeout(() => connection.expire(performance.now() + 16_000, 15_000), 50)
    expect(await answer).toMatchObject({ status: 0, body: 'ETIMEDOUT' })
  })

  it('nothing when an idle connection was closed: the next request opens another', async () => {
    const { ask, sockets, connections } = await peer((socket) => socket.write(ok))
    expect((await ask()).status).toBe(202)
    for (const socket of sockets) socket.destroy()
    await vi.waitFor(() => expect([...sockets].every(({ destroyed }) => destroyed)).toBe(true))
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect((await ask()).status).toBe(202)
    expect(connections()).toBe(2)
  })
})
