import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { BatchBuilder, bodyOf, type ImportMessage } from './batch.ts'
import { Sender } from './send.ts'

const row = { line: 2, cells: new Map(), fault: undefined }

/** One device, so many rows of one reading. */
function message(device: string, rows = 1): ImportMessage {
  const reading = {
    kind: 'reading',
    line: 2,
    device,
    timeUs: 1,
    json: '{"ts":1,"values":{"n":1}}',
    readings: 1,
  } as const
  return { device, rows: Array.from({ length: rows }, () => ({ row, reading })), readings: rows }
}

type Answer = readonly [status: number, body: object, headers?: Record<string, string>]

/** A gateway that answers by the devices of a body, which it writes down. */
async function sending(answer: (devices: string[], call: number, bytes: number) => Answer, newTokenMs = 0) {
  const calls: string[][] = []
  const server = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    const devices = [...text.matchAll(/"([a-z]+)":\[/g)].map(([, name]) => name as string)
    calls.push(devices)
    const [status, body, headers] = answer(devices, calls.length, text.length)
    response.writeHead(status, headers).end(JSON.stringify(body))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  const stop = new AbortController()
  const waits: number[] = []
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const sender = new Sender({ url, token: 'fb_x', newTokenMs, signal: stop.signal, onWait: (ms) => waits.push(ms) })
  return { sender, calls, waits, stop }
}

it('sends again only what was refused for now, after the wait that it was told', async () => {
  const { sender, calls, waits } = await sending((_devices, call) =>
    call === 1
      ? [
          207,
          {
            items: [
              { index: 0, status: 202 },
              { index: 1, status: 429, waitMs: 120 },
              { index: 2, status: 400, code: 'bad_value', deadLetter: 'l-1' },
            ],
          },
        ]
      : [202, { accepted: 1 }],
  )
  const sent = await sender.send([message('a', 3), message('b', 2), message('c')])
  expect(calls).toEqual([['a', 'b', 'c'], ['b']])
  expect(waits).toEqual([120])
  expect(sent.readings).toBe(5)
  expect(sent.parked).toMatchObject([{ message: { device: 'c' }, reason: expect.stringContaining('dead letter l-1') }])
})

it('waits for Retry-After when all are refused, and for a gateway that stops', async () => {
  const { sender, waits } = await sending((_devices, call) =>
    call === 1
      ? [429, { code: 'rate_limited' }, { 'retry-after': '1' }]
      : call === 2
        ? [503, { code: 'stopping', waitMs: 60 }]
        : [202, {}],
  )
  expect(await sender.send([message('a')])).toEqual({ readings: 1, parked: [] })
  expect(waits).toEqual([1000, 60])
})

it('halves what is too large, down to a single row', async () => {
  const { sender } = await sending((_devices, _call, bytes) => (bytes > 90 ? [413, {}] : [202, {}]))
  const sent = await sender.send([message('a', 7), message('b', 1)])
  expect(sent).toEqual({ readings: 8, parked: [] })
})

it('a single row that is too large is told', async () => {
  const { sender } = await sending(() => [413, {}])
  const { parked } = await sender.send([message('a', 2)])
  expect(parked).toHaveLength(2)
  expect(parked[0]?.reason).toContain('BRIDGE_HTTP_MAX_BODY_BYTES')
})

it('gives a new token time to be known, and says when a token is wrong', async () => {
  const patient = await sending((_devices, call) => (call < 3 ? [401, {}] : [202, {}]), 5000)
  expect(await patient.sender.send([message('a')])).toMatchObject({ readings: 1 })
  const { sender } = await sending(() => [401, { detail: 'no such token' }])
  await expect(sender.send([message('a')])).rejects.toThrow(/401: no such token.*fleet credential/)
})

it('an interruption ends a wait', async () => {
  const { sender, stop } = await sending(() => [429, {}, { 'retry-after': '30' }])
  const sent = sender.send([message('a')])
  setTimeout(() => stop.abort(), 50)
  await expect(sent).rejects.toThrow(/abort/)
})

it('a device with more readings than a message may have gets several, in one body', () => {
  const builder = new BatchBuilder({ rows: 10_000, bytes: 1_000_000, messageRows: 400 })
  const json = '{"ts":1,"values":{}}'
  for (let n = 0; n < 1000; n++)
    builder.add(row, { kind: 'reading', line: n, device: 'a', timeUs: n, json, readings: 5 })
  const { messages, rows } = builder.take()
  expect(rows).toBe(1000)
  expect(messages.map(({ readings }) => readings)).toEqual([1000, 1000, 1000, 1000, 1000])
  expect(bodyOf(messages).match(/"a":\[/g)).toHaveLength(5)
  expect(builder.isEmpty).toBe(true)
})
