import { once } from 'node:events'
import { connect } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { createMetrics } from './metrics.ts'
import { type OpsListenerOptions, startOpsListener } from './ops-listener.ts'

const host = '127.0.0.1'

async function start(ready: OpsListenerOptions['ready'] = () => ({ ok: true, detail: { ackLevel: 'committed' } })) {
  const metrics = createMetrics('1.2.3')
  const listener = await startOpsListener({ host, port: 0, metrics, ready })
  onTestFinished(() => listener.close())
  const get = (path: string, init?: RequestInit) => fetch(`http://${host}:${listener.port}${path}`, init)
  return { metrics, listener, get }
}

it('serves metrics in the text format', async () => {
  const { metrics, get } = await start()
  metrics.counter('fleetbridge_tries_total', 'Tries').inc(3)
  const answer = await get('/metrics')
  expect(answer.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
  expect(await answer.text()).toMatch(/fleetbridge_build_info\{version="1\.2\.3"[\s\S]*\nfleetbridge_tries_total 3\n/)
})

it('is alive, and ready as it is told', async () => {
  let ok = true
  const { get } = await start(() => ({ ok, detail: { ackLevel: 'single-copy', eventLogAwayMs: ok ? 0 : 12_000 } }))
  expect((await get('/livez')).status).toBe(200)
  const ready = await get('/readyz')
  expect([ready.status, await ready.json()]).toEqual([200, { ready: true, ackLevel: 'single-copy', eventLogAwayMs: 0 }])
  expect(await (await get('/metrics')).text()).toContain('\nfleetbridge_ready 1\n')
  ok = false
  expect(await (await get('/metrics')).text()).toContain('\nfleetbridge_ready 0\n')
  const unready = await get('/readyz?verbose')
  expect([unready.status, await unready.json()]).toEqual([
    503,
    { ready: false, ackLevel: 'single-copy', eventLogAwayMs: 12_000 },
  ])
  expect((await get('/livez')).status, 'an outage elsewhere is no reason to be restarted').toBe(200)
})

it('serves nothing else', async () => {
  const { get } = await start()
  for (const path of ['/', '/metrics/', '/v1/telemetry', '/x/metrics']) expect((await get(path)).status).toBe(404)
  const posted = await get('/metrics', { method: 'POST', body: 'x'.repeat(1000) })
  expect([posted.status, posted.headers.get('allow'), posted.headers.get('connection')]).toEqual([
    405,
    'GET, HEAD',
    'close',
  ])
  const head = await get('/readyz', { method: 'HEAD' })
  expect([head.status, await head.text()]).toEqual([200, ''])
})

it('answers 500 when a metric cannot be read, and lives on', async () => {
  const { metrics, get } = await start()
  let broken = true
  metrics.gauge('fleetbridge_shaky', 'Fails at first', () => {
    if (broken) throw new Error('not now')
    return 1
  })
  expect((await get('/metrics')).status).toBe(500)
  broken = false
  expect(await (await get('/metrics')).text()).toContain('fleetbridge_shaky 1')
})

it('names the variable when the port is in use', async () => {
  const { listener } = await start()
  const again = (portVariable?: string) =>
    startOpsListener({
      host,
      port: listener.port,
      metrics: createMetrics('0'),
      ready: () => ({ ok: true, detail: {} }),
      ...(portVariable && { portVariable }),
    })
  await expect(again()).rejects.toMatchObject({ code: 'BRIDGE_PORT_IN_USE', details: { variable: 'BRIDGE_OPS_PORT' } })
  await expect(again('OTHER_PORT')).rejects.toThrow(/OTHER_PORT=/)
})

it('closes at once, also while somebody is connected, and may be closed twice', async () => {
  const { listener } = await start()
  const socket = connect(listener.port, host)
  await once(socket, 'connect')
  socket.on('error', () => {})
  socket.write('GET /met')
  const closed = new Promise((resolve) => socket.once('close', resolve))
  await Promise.all([listener.close(), listener.close()])
  await closed
  await expect(fetch(`http://${host}:${listener.port}/livez`)).rejects.toThrow()
})

it('gives up on a client that does not finish its request', { timeout: 20_000 }, async () => {
  const { listener } = await start()
  const socket = connect(listener.port, host)
  await once(socket, 'connect')
  socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n')
  let text = ''
  socket.on('data', (chunk) => (text += chunk))
  await once(socket, 'close')
  expect(text).toMatch(/^HTTP\/1\.1 408 /)
})
