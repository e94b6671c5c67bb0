import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, it, vi } from 'vitest'
import { createClock } from './clock.ts'
import { createHttpFleet } from './http-fleet.ts'
import { Outbox } from './outbox.ts'
import { createPayloadMaker } from './payload.ts'
import { seededRandom } from './random.ts'

const open: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

interface Asked {
  readonly path: string
  readonly authorization: string
  readonly seq: number | undefined
  readonly ts: number | undefined
}

/** A server that notes requests and answers as `answer` says. */
async function startServer(answer: (asked: Asked, response: ServerResponse) => void) {
  const asked: Asked[] = []
  let connections = 0
  const server = createServer((request: IncomingMessage, response) => {
    let text = ''
    request.setEncoding('utf8')
    request.on('data', (chunk: string) => (text += chunk))
    request.on('end', () => {
      const body = JSON.parse(text) as { ts?: number; values?: { seq: number } }
      const one = {
        path: `${request.method} ${request.url}`,
        authorization: request.headers.authorization ?? '',
        seq: body.values?.seq,
        ts: body.ts,
      }
      if (one.seq !== undefined) asked.push(one)
      answer(one, response)
    })
  })
  server.on('connection', () => connections++)
  const listen = (port: number) => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const stop = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  await listen(0)
  open.push(stop)
  const { port } = server.address() as AddressInfo
  return { port, asked, connections: () => connections, stop, restart: () => listen(port) }
}

const accept = (response: ServerResponse) => {
  response.writeHead(202, { 'content-type': 'application/json' })
  response.end('{"accepted":1}')
}

function problem(response: ServerResponse, status: number, code: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/problem+json', ...headers })
  response.end(JSON.stringify({ title: 'no', code }))
}

function fleetOf(port: number, devices: number, connections: number) {
  const outbox = new Outbox({ devices, payloads: createPayloadMaker(2, 1), clock: createClock() })
  const logins = Array.from({ length: devices }, (_, index) => ({ device: `d-${index}`, token: `token-${index}` }))
  const fleet = createHttpFleet({ host: '127.0.0.1', port, logins, outbox, random: seededRandom(1), connections })
  open.push(() => fleet.close())
  let timeUs = Date.now() * 1000
  const send = (device: number) => {
    outbox.due(device, timeUs++)
    fleet.send(device)
  }
  return { outbox, fleet, send, journal: outbox.journal, tally: outbox.tally }
}

it('posts each message with its device’s token over bounded, kept connections', async () => {
  const server = await startServer((_asked, response) => setTimeout(() => accept(response), 5))
  const { fleet, send, journal, tally } = fleetOf(server.port, 10, 3)
  await fleet.start(5000)
  for (let round = 0; round < 6; round++) for (let device = 0; device < 10; device++) send(device)
  expect(fleet.inFlight()).toBe(3)
  await vi.waitFor(() => expect(journal.totals()).toEqual({ due: 60, sent: 60, acknowledged: 60, refused: 0 }))
  expect(fleet.inFlight()).toBe(0)
  expect(server.connections()).toBeLessThanOrEqual(3)
  for (let device = 0; device < 10; device++) {
    const own = server.asked.filter(({ authorization }) => authorization === `Bearer token-${device}`)
    expect(own.map(({ seq }) => seq).sort((a = 0, b = 0) => a - b)).toEqual([1, 2, 3, 4, 5, 6])
    for (const { ts, seq } of own) expect(ts).toBe(journal.timeOf(device, seq as number))
  }
  expect(new Set(server.asked.map(({ path }) => path))).toEqual(new Set(['POST /v1/telemetry']))
  expect(tally.ackMs()?.p50).toBeGreaterThan(4)
})

it('sends again what failed for a passing reason, and takes a refusal of the message for final', async () => {
  const tries = new Map<number, number>()
  const server = await startServer(({ seq }, response) => {
    if (seq === undefined) return accept(response)
    const attempt = (tries.get(seq) ?? 0) + 1
    tries.set(seq, attempt)
    if (seq === 1 && attempt === 1) return problem(response, 503, 'event_log_unavailable', { 'retry-after': '1' })
    if (seq === 2 && attempt === 1) return problem(response, 429, 'rate_limited')
    if (seq === 3) return problem(response, 400, 'malformed')
    if (seq === 4 && attempt === 1) return void response.destroy()
    accept(response)
  })
  const { fleet, send, journal, tally } = fleetOf(server.port, 1, 2)
  await fleet.start(5000)
  for (let count = 0; count < 5; count++) send(0)
  await vi.waitFor(() => expect(journal.totals()).toEqual({ due: 5, sent: 5, acknowledged: 4, refused: 1 }), {
    timeout: 5000,
  })
  expect(Object.fromEntries(tries)).toEqual({ 1: 2, 2: 2, 3: 1, 4: 2, 5: 1 })
  expect(Object.fromEntries(tally.refusals)).toEqual({
    '503 event_log_unavailable': 1,
    '429 rate_limited': 1,
    '400 malformed': 1,
  })
  expect(Object.fromEntries(tally.connectionErrors)).toEqual({ ECONNRESET: 1 })
  expect(tally.resent).toBe(3)
  expect(tally.ackMs()?.max, 'the Retry-After was kept').toBeGreaterThanOrEqual(1000)
})

it('survives a server that goes away: nothing piles up, and all arrives with its own number and time', async () => {
  const server = await startServer((_asked, response) => accept(response))
  const { fleet, send, journal, tally } = fleetOf(server.port, 5, 4)
  await fleet.start(5000)
  for (let device = 0; device < 5; device++) send(device)
  await vi.waitFor(() => expect(journal.totals().acknowledged).toBe(5))
  await server.stop()
  for (let round = 0; round < 20; round++) for (let device = 0; device < 5; device++) send(device)
  await vi.waitFor(() => expect(tally.connectionErrors.size).toBeGreaterThan(0))
  expect(fleet.inFlight()).toBeLessThanOrEqual(4)
  await server.restart()
  await vi.waitFor(() => expect(journal.totals().acknowledged).toBe(105), { timeout: 10_000 })
  for (const { authorization, seq, ts } of server.asked)
    expect(ts).toBe(journal.timeOf(Number(authorization.slice('Bearer token-'.length)), seq as number))
})

it('says why nobody got in', async () => {
  const server = await startServer((_asked, response) => problem(response, 401, 'not_authenticated'))
  await expect(fleetOf(server.port, 1, 1).fleet.start(300)).rejects.toThrow(/401 not_authenticated/)
  await server.stop()
  await expect(fleetOf(server.port, 1, 1).fleet.start(300)).rejects.toThrow(/ECONNREFUSED/)
})
