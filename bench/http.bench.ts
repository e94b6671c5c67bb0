/**
 * What a request costs in the HTTP source, beside bare node:http that reads the body and answers the same bytes: `node bench/http.bench.ts`.
 * The pipeline behind it settles at once, so decoding and the event log are not in it. Load comes from a child process over 32 kept
 * connections, one request in flight each; rounds alternate, since other work on the machine comes and goes.
 */

import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Principal } from '#gateway/auth/principal.ts'
import type { Envelope } from '#gateway/envelope.ts'
import { startHttpSource } from '#gateway/http/http-source.ts'
import { stored } from '#gateway/verdict.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'

const connections = 32
const rounds = Number(process.env.ROUNDS ?? 5)
const requestsInRound = Number(process.env.REQUESTS ?? 20_000)
const message = '{"ts":1790000000000,"values":{"temperature":{"value":21.5,"unit":"Cel"},"count":7}}'

if (process.argv[2] === undefined) await compare()
else await load(Number(process.argv[2]), Number(process.argv[3]), Number(process.argv[4]))

async function compare(): Promise<void> {
  const bare = createServer((request, response) => {
    request.on('data', () => {})
    request.on('end', () => {
      const body = '{"accepted":1,"id":"01890a5d-ac96-774b-bcce-b302099a8057"}'
      response.writeHead(202, { 'content-type': 'application/json', 'content-length': body.length }).end(body)
    })
  })
  await new Promise<void>((resolve) => bare.listen(0, '127.0.0.1', resolve))
  const principal: Principal = {
    tenant: 'default',
    device: 'pump-1',
    fleet: false,
    credentialId: '1',
    operator: false,
    expiresAtMs: Number.POSITIVE_INFINITY,
    allows: () => true,
  }
  const settled: Envelope[] = []
  const source = await startHttpSource(
    {
      port: 0,
      host: '127.0.0.1',
      plain: true,
      tlsPort: 0,
      webSocket: true,
      maxConnections: 20_000,
      maxConnectionsPerAddress: 5000,
      maxBodyBytes: 1_048_576,
      maxItems: 10_000,
      holdMs: 10_000,
    },
    {
      pipeline: {
        push(envelope) {
          // As the pipeline does: in groups, after the read that brought them.
          if (settled.push(envelope) === 1)
            setImmediate(() => {
              for (const each of settled.splice(0)) each.settle(stored)
            })
        },
      },
      authenticator: {
        authenticate: () => principal,
        isLive: () => true,
        onChange: () => () => {},
        admitDevice: () => 'admitted',
      },
      log: silentLog,
      metrics: createMetrics('bench'),
    },
  )
  const cases = [
    { name: 'bare node:http', port: (bare.address() as AddressInfo).port, messages: 1 },
    { name: 'HTTP source, one message', port: source.port, messages: 1 },
    { name: 'HTTP source, array of 100', port: source.port, messages: 100 },
  ]
  const costs = cases.map((): number[] => [])
  for (let round = 0; round <= rounds; round++)
    for (const [index, { port, messages }] of cases.entries()) {
      const requests = messages === 1 ? requestsInRound : requestsInRound / 10
      const cost = await measure(port, messages, requests)
      if (round > 0) costs[index]?.push(cost / requests / messages) // the first warms up
    }
  for (const [index, { name }] of cases.entries()) {
    const sorted = (costs[index] ?? []).sort((a, b) => a - b)
    const [least, median] = [sorted[0] ?? 0, sorted[sorted.length >> 1] ?? 0]
    console.log(
      `${name.padEnd(26)} ${median.toFixed(1)} µs CPU a message (median of ${rounds}, least ${least.toFixed(1)})`,
    )
  }
  bare.closeAllConnections()
  bare.close()
  await source.close()
}

/** @returns CPU of this process in microseconds while a child sends */
async function measure(port: number, messages: number, requests: number): Promise<number> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(import.meta.url), String(port), String(messages), String(requests)],
    {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    },
  )
  await new Promise<void>((resolve) => child.once('message', () => resolve()))
  const before = process.cpuUsage()
  child.send('go')
  const code = await new Promise((resolve) => child.once('exit', resolve))
  const { user, system } = process.cpuUsage(before)
  if (code !== 0) throw new Error(`the load ended with ${code}`)
  return user + system
}

async function load(port: number, messages: number, requests: number): Promise<void> {
  const body = messages === 1 ? message : `[${Array(messages).fill(message).join()}]`
  const request = `POST /v1/telemetry HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer fb_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  const started = new Promise((resolve) => process.once('message', resolve))
  process.send?.('ready')
  await started
  let left = requests
  await Promise.all(
    Array.from(
      { length: connections },
      () =>
        new Promise<void>((resolve, reject) => {
          const socket = connect(port, '127.0.0.1')
          const next = () => {
            if (left-- > 0) socket.write(request)
            else socket.end(resolve)
          }
          socket.once('connect', next)
          // Answers are small, so each comes in one read.
          socket.on('data', (chunk) => (chunk.includes(' 202 Accepted') ? next() : reject(new Error(chunk.toString()))))
          socket.on('error', reject)
        }),
    ),
  )
  process.disconnect()
}
