import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt from 'mqtt'
import pg from 'pg'
import { expect, inject, it, onTestFinished, vi } from 'vitest'
import { addFleetCredential } from '#cli/registry.ts'
import { freePort } from '#test/servers/free-port.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import { Stack } from '#test/stack/stack.ts'

vi.setConfig({ testTimeout: 180_000 }) // processes are started again

const longAgo = Date.now() - 200 * 86_400_000
const old = (n: number) => JSON.stringify({ ts: longAgo + n, values: { n } })
const good = (n: number) => JSON.stringify({ ts: Date.now() - 60_000 + n, values: { n } })
const broken = (n: number) => `{"ts":${n},"values":{"n":"a",}}`

it('1,000 bad messages among 10,000 good ones: all are accounted for, and a replay turns the repaired ones into rows, once', async () => {
  await using stack = await Stack.start({
    kafkaBrokers: inject('kafkaBrokers'),
    env: { BRIDGE_LIMITS_DEVICE: 'none', BRIDGE_LIMITS_FIRST_SIGHT_PER_MINUTE: '1000' },
  })
  const { database } = stack
  const token = await stack.addDevice('pump-1')
  const addFleet = async (pattern: string | undefined) => {
    const client = new pg.Client(stack.env.DATABASE_URL)
    await client.connect()
    const { token } = await addFleetCredential(client, { tenant: 'default', name: 'gw-1', pattern })
    await client.end()
    return token
  }
  const fleetToken = await addFleet('a-*')
  const cli = async (...args: string[]) => {
    const env = { ...stack.env, BRIDGE_ADMIN_TOKEN: adminToken, BRIDGE_DATA_DIR: '/nonexistent/fleetbridge' }
    const child = new BridgeProcess(['dead-letters', ...args], env)
    const code = await child.exited
    return { code, json: JSON.parse(child.output.slice(child.output.search(/^[{[]/m))) }
  }
  const adminToken = await stack.addAdmin('replayer')
  await new Promise((resolve) => setTimeout(resolve, 1500)) // the registry's feed

  const sentBad: string[] = []
  let n = 0
  // 9,000 good ones over HTTP, 600 that are too old and 300 that are no JSON among them.
  for (let request = 0; request < 30; request++) {
    const items: string[] = []
    for (let index = 0; index < 330; index++) {
      const bad = index % 11 === 0
      const body = !bad ? good(n) : index % 33 === 0 ? broken(n) : old(n)
      if (bad) sentBad.push(body)
      items.push(body)
      n++
    }
    const answer = await fetch(`http://127.0.0.1:${stack.httpPort}/v1/telemetry`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/x-ndjson' },
      body: items.join('\n'),
    })
    expect([answer.status, ((await answer.json()) as { accepted: number }).accepted]).toEqual([207, 300])
  }
  // 1,000 by MQTT, and a fleet body for 100 devices outside the pattern: acknowledged, and parked.
  const connect = (username: string, password: string) =>
    mqtt.connectAsync({
      host: '127.0.0.1',
      port: stack.mqttPort,
      clientId: username,
      username,
      password,
      reconnectPeriod: 0,
    })
  const device = await connect('pump-1', token)
  await Promise.all(
    Array.from({ length: 1000 }, () => device.publishAsync('devices/me/telemetry', good(n++), { qos: 1 })),
  )
  await device.endAsync()
  const gateway = await connect('gw-1', fleetToken)
  const members = Array.from({ length: 100 }, (_, index) => [`b-${index}`, [{ n: index }]] as const)
  sentBad.push(...members.map(([, body]) => JSON.stringify(body)))
  await gateway.publishAsync('gateways/me/telemetry', JSON.stringify(Object.fromEntries(members)), { qos: 1 })
  await gateway.endAsync()

  const health = async () =>
    (
      await database.query(
        'SELECT sum(stored)::int AS stored, sum(duplicate)::int AS duplicate, sum(parked)::int AS parked FROM ingest_health',
      )
    ).rows[0]
  const letters = async () =>
    (
      await database.query(
        `SELECT code, replay_outcome, replayed_at IS NOT NULL AS replayed, count(*)::int AS n FROM dead_letter GROUP BY 1, 2, 3 ORDER BY 1`,
      )
    ).rows
  const rowCount = async () => (await database.query('SELECT count(*)::int AS n FROM reading')).rows[0].n
  await vi.waitFor(async () => expect(await rowCount()).toBe(10_000), { timeout: 60_000, interval: 200 })
  await vi.waitFor(
    async () =>
      expect(await letters()).toEqual([
        { code: 'malformed', replay_outcome: null, replayed: false, n: 300 },
        { code: 'not_allowed', replay_outcome: null, replayed: false, n: 100 },
        { code: 'too_old', replay_outcome: null, replayed: false, n: 600 },
      ]),
    { timeout: 30_000, interval: 200 },
  )
  const kept = await database.query(`SELECT convert_from(payload, 'UTF8') AS payload FROM dead_letter`)
  expect(kept.rows.map(({ payload }) => payload).sort(), 'the bytes').toEqual(sentBad.sort())
  // received = accepted + ignored + refused, accepted = stored + duplicate + parked.
  const gatewaySays = async (name: string, ...labels: string[]) => await stack.metric(stack.gatewayOps, name, ...labels)
  expect(await gatewaySays('fleetbridge_received_messages_total')).toBe(11_000)
  expect(await gatewaySays('fleetbridge_messages_total', 'result="accepted"')).toBe(10_100)
  expect(await gatewaySays('fleetbridge_messages_total', 'result="refused"')).toBe(900)
  await vi.waitFor(async () => expect(await health()).toEqual({ stored: 10_000, duplicate: 0, parked: 100 }), 10_000)

  const replay = async (...args: string[]) =>
    await cli('replay', '--json', '--admin', await stack.gatewayAdmin(), ...args)
  expect((await replay('--all', '--dry-run')).json).toMatchObject({ letters: 1000, stored: 0, parked: 1000 })
  expect(await replay('--all'), 'nothing is repaired').toMatchObject({
    code: 1,
    json: { letters: 1000, stored: 0, parked: 1000 },
  })
  expect(await rowCount()).toBe(10_000)

  // The repair: what is old is wanted after all, and the fleet credential may speak for more.
  await Promise.all([stack.gateway.stop(), stack.worker.stop()])
  stack.env.BRIDGE_RETENTION_READING = 'forever'
  await Promise.all([stack.startGateway(), stack.startWorker()])
  await addFleet(undefined)
  expect((await replay('--code', 'too_old', '--dry-run')).json).toMatchObject({ letters: 600, stored: 600, parked: 0 })
  expect(await rowCount()).toBe(10_000)
  const repaired = await replay('--all')
  expect(repaired).toMatchObject({ code: 1, json: { letters: 1000, duplicate: 0, ignored: 0, parked: 300 } })
  expect(repaired.json.stored + repaired.json.pending).toBe(700)
  await vi.waitFor(
    async () =>
      expect(await letters()).toEqual([
        { code: 'malformed', replay_outcome: 'parked', replayed: false, n: 300 },
        { code: 'not_allowed', replay_outcome: 'stored', replayed: true, n: 100 },
        { code: 'too_old', replay_outcome: 'stored', replayed: true, n: 600 },
      ]),
    { timeout: 30_000, interval: 200 },
  )
  expect(await rowCount()).toBe(10_700)
  expect(await stack.rows(`device = 'b-7'`)).toMatchObject([{ metric: 'n', value: 7 }])
  expect(await gatewaySays('fleetbridge_messages_total', 'result="accepted"')).toBe(700)
  expect(await health()).toEqual({ stored: 10_700, duplicate: 0, parked: 100 })

  expect(await replay('--all'), 'a second replay does nothing').toMatchObject({
    json: { letters: 300, stored: 0, parked: 300 },
  })
  expect([await rowCount(), await health()]).toEqual([10_700, { stored: 10_700, duplicate: 0, parked: 100 }])

  expect((await cli('list', '--json', '--codes')).json).toMatchObject([{ code: 'malformed', letters: 300 }])
  expect((await cli('purge', '--json', '--code', 'malformed', '--dry-run')).json).toEqual({ purged: 300 })
  expect((await cli('purge', '--json', '--code', 'malformed')).json).toEqual({ purged: 300 })
  expect((await cli('list', '--json')).json).toEqual([])
  const audited = await database.query(
    `SELECT action, sum((details ->> 'letters')::int)::int AS letters FROM audit WHERE action LIKE 'dead-letter.%' GROUP BY 1 ORDER BY 1`,
  )
  expect(audited.rows).toEqual([
    { action: 'dead-letter.purge', letters: 300 },
    { action: 'dead-letter.replay', letters: 1000 + 1000 + 300 },
  ])
})

it('the running instance: list, show and replay without naming anything', async () => {
  await using database = await migratedDatabase()
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetbridge-letters-'))
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }))
  const httpPort = await freePort()
  const env = {
    DATABASE_URL: database.url,
    BRIDGE_DATA_DIR: dataDir,
    BRIDGE_MQTT_PORT: '0',
    BRIDGE_OPS_PORT: '0',
    BRIDGE_HTTP_PORT: String(httpPort),
  }
  await using up = new BridgeProcess(['up'], env)
  await up.until('it runs', () => {
    try {
      return JSON.parse(readFileSync(join(dataDir, 'state.json'), 'utf8')).pids.fleetbridge === up.pid
    } catch {
      return false
    }
  })
  const token = (await run(['credentials', 'add', '--fleet', '--name', 'gw-1', '--pattern', 'a-*'], env)).trim()
  const send = async () =>
    await fetch(`http://127.0.0.1:${httpPort}/write`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
      body: 'm,device=b-1 n=1\nm,device=a-1 n=2\n\u0001nonsense',
    })
  await vi.waitFor(async () => expect((await send()).status).toBe(204), { timeout: 10_000, interval: 100 })
  const letters = JSON.parse(await run(['dead-letters', 'list', '--json'], env)) as { id: string; code: string }[]
  expect(letters.map(({ code }) => code).sort()).toEqual(['malformed', 'not_allowed'])
  const outside = letters.find(({ code }) => code === 'not_allowed')?.id as string
  expect(await run(['dead-letters', 'show', outside], env)).toContain('m,device=b-1 n=1\n\n00000000  6d 2c 64')
  expect(await run(['dead-letters', 'show', outside, '--raw'], env)).toBe('m,device=b-1 n=1')
  await run(['credentials', 'add', '--fleet', '--name', 'gw-1', '--pattern', 'b-*'], env)
  const replayed = JSON.parse(await run(['dead-letters', 'replay', outside, '--json'], env))
  expect(replayed).toMatchObject({ letters: 1, stored: 1, parked: 0, pending: 0 })
  expect(JSON.parse(await run(['dead-letters', 'replay', outside, '--json'], env))).toMatchObject({ letters: 0 })
  const rows = await run(
    ['sql', `SELECT device, value FROM telemetry WHERE device LIKE '%-1' ORDER BY 1`, '--json'],
    env,
  )
  expect(JSON.parse(rows)).toEqual([
    { device: 'a-1', value: 2 },
    { device: 'b-1', value: 1 },
  ])
})

it('a wrong route is mended while it runs, and what it had parked becomes rows by a replay, once', async () => {
  await using database = await migratedDatabase()
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetbridge-routes-'))
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }))
  const config = join(dataDir, 'fleetbridge.yaml')
  const routeBy = (codec: string) => writeFileSync(config, `routes:\n  - topic: plant/#\n    codec: ${codec}\n`)
  routeBy('seed') // wrong: the plant speaks line protocol
  const env = {
    DATABASE_URL: database.url,
    BRIDGE_DATA_DIR: dataDir,
    BRIDGE_CONFIG: config,
    BRIDGE_MQTT_PORT: String(await freePort()),
    BRIDGE_HTTP_PORT: '0',
    BRIDGE_OPS_PORT: '0',
  }
  await using up = new BridgeProcess(['up'], env)
  await up.until('it runs', () => up.output.includes('waiting for the first message'))
  const password = (await run(['credentials', 'add', '--fleet', '--name', 'plant'], env)).trim()
  const client = await vi.waitFor(() =>
    mqtt.connectAsync(`mqtt://127.0.0.1:${env.BRIDGE_MQTT_PORT}`, { username: 'plant', password, reconnectPeriod: 0 }),
  )
  for (let n = 1; n <= 200; n++)
    await client.publishAsync('plant/hall', n % 10 === 0 ? `nonsense ${n}` : `m,device=press-1 n=${n}`, { qos: 1 })
  await client.endAsync()
  const replay = async () => JSON.parse(await runAnyway(['dead-letters', 'replay', '--all', '--json'], env))
  const rows = async () =>
    JSON.parse(await run(['sql', `SELECT count(*)::int AS n FROM telemetry WHERE metric = 'm.n'`, '--json'], env))[0].n
  expect(await replay(), 'the route is still wrong').toMatchObject({ letters: 200, stored: 0, parked: 200 })

  routeBy('influx-line')
  await vi.waitFor(async () => expect((await replay()).stored).toBeGreaterThan(0), { timeout: 20_000, interval: 500 })
  await vi.waitFor(async () => expect(await rows()).toBe(180))
  expect(await replay(), 'what cannot be read stays').toMatchObject({ letters: 20, stored: 0, parked: 20 })
  expect(await rows()).toBe(180)
})

/** Its output, whatever it ends with: 1 says that something stays parked. */
async function runAnyway(args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const child = new BridgeProcess(args, env)
  await child.exited
  return child.output.slice(child.output.search(/^[{[]/m))
}
