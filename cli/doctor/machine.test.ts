import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { loadConfig } from '#platform/config.ts'
import { startMark } from '#platform/process-alive.ts'
import { TestAuthority } from '#platform/testing/certificates.ts'
import { freePort } from '#test/servers/free-port.ts'
import { configuration, problemsOf } from './configuration.ts'
import { findingsOf, shortened } from './context.fixture.ts'
import { dataFolder } from './data-dir.ts'
import { loginFiles } from './login-files.ts'
import { openFiles } from './open-files.ts'
import { ports } from './ports.ts'
import { running } from './running.ts'
import { tlsFiles } from './tls-files.ts'

const dayMs = 86_400_000
const noPorts = { BRIDGE_MQTT_PORT: '0', BRIDGE_HTTP_PORT: '0', BRIDGE_OPS_PORT: '0', BRIDGE_ADMIN_PORT: '0' }

it('configuration: sample secrets on the network, open mode, and every problem of an environment', async () => {
  const exposed = { BRIDGE_ADMIN_TOKEN: 'change-me-change-me-now', BRIDGE_MQTT_OPEN: 'true' }
  expect(shortened(await findingsOf(configuration, exposed))).toEqual([
    expect.stringMatching(/^ok: .*admin\.token/),
    expect.stringMatching(/^fail: BRIDGE_ADMIN_TOKEN is a sample/),
    expect.stringMatching(/^warn: BRIDGE_MQTT_OPEN=true/),
  ])
  try {
    loadConfig({ BRIDGE_MQTT_PORT: 'x', BRIDGE_NO_SUCH: '1' })
    expect.unreachable()
  } catch (error) {
    expect(problemsOf(error)).toHaveLength(2)
  }
})

it('ports: free ones, one that another process has and which, one that this user may not open', async () => {
  const [taken, free] = [await freePort(), await freePort()]
  const squatter = createServer()
  await listening(squatter, taken)
  const findings = shortened(
    await findingsOf(ports, {
      ...noPorts,
      BRIDGE_MQTT_HOST: '127.0.0.1',
      BRIDGE_MQTT_PORT: String(taken),
      BRIDGE_HTTP_HOST: '127.0.0.1',
      BRIDGE_HTTP_PORT: String(free),
    }),
  )
  expect(findings[0]).toBe(`ok: free: BRIDGE_HTTP_PORT ${free}`)
  expect(findings[1]).toMatch(new RegExp(`^fail: BRIDGE_MQTT_PORT ${taken} is in use by process ${process.pid} \\(`))
  const nowhere = { ...noPorts, BRIDGE_MQTT_HOST: '192.0.2.1', BRIDGE_MQTT_PORT: '18830' }
  expect(shortened(await findingsOf(ports, nowhere))).toEqual([
    expect.stringMatching(/^fail: .*no address 192\.0\.2\.1/),
  ])
})

it('ports: those of our own running instance are as they should be', async () => {
  const taken = await freePort()
  await listening(createServer(), taken)
  const dataDir = newFolder()
  writeState(dataDir, 'http://127.0.0.1:1')
  const env = { ...noPorts, BRIDGE_DATA_DIR: dataDir, BRIDGE_HTTP_HOST: '127.0.0.1', BRIDGE_HTTP_PORT: String(taken) }
  expect(shortened(await findingsOf(ports, env))).toEqual([
    `ok: BRIDGE_HTTP_PORT ${taken} is our running instance's, process ${process.pid}`,
  ])
})

it('open files: fewer than connections', async () => {
  const few = { BRIDGE_MQTT_MAX_CONNECTIONS: '100', BRIDGE_HTTP_MAX_CONNECTIONS: '100' }
  expect(await findingsOf(openFiles, few)).toMatchObject([{ verdict: 'ok' }])
  const many = { ...few, BRIDGE_HTTP_MAX_CONNECTIONS: '2000000000' }
  const findings = await findingsOf(openFiles, many)
  expect(findings).toMatchObject([{ verdict: 'warn', line: 'ulimit -n 2000000600' }])
})

it('data folder: none yet, too little room, another version, not ours', async () => {
  expect(shortened(await findingsOf(dataFolder, { BRIDGE_DATA_DIR: join(newFolder(), 'new') }))).toEqual([
    expect.stringMatching(/^ok: no embedded Postgres yet/),
    expect.stringMatching(/^ok: \d+ MB are free/),
  ])
  const dataDir = newFolder()
  mkdirSync(join(dataDir, 'postgres'))
  writeFileSync(join(dataDir, 'postgres/PG_VERSION'), '12\n')
  const full = { BRIDGE_DATA_DIR: dataDir, BRIDGE_POSTGRES_MIN_FREE_DISK_MB: '1000000000' }
  expect(shortened(await findingsOf(dataFolder, full))).toEqual([
    expect.stringMatching(/^fail: the embedded Postgres .* was made by Postgres 12/),
    expect.stringMatching(/^fail: \d+ MB are free .* below 1000000000 MB/),
  ])
  expect(await findingsOf(dataFolder, { BRIDGE_DATA_DIR: '/proc/self/nothing' })).toMatchObject([{ verdict: 'fail' }])
})

it('tls: what a start refuses, how long it lasts, whom it names, who reads the key', async () => {
  using authority = new TestAuthority()
  const server = authority.server('DNS:bridge.example')
  const env = { BRIDGE_TLS_CERT_FILE: server.certFile, BRIDGE_TLS_KEY_FILE: server.keyFile }
  const verdicts = async (aheadMs: number) => (await findingsOf(tlsFiles, env, aheadMs)).map(({ verdict }) => verdict)
  expect(shortened(await findingsOf(tlsFiles, env, -dayMs))[0]).toMatch(/^fail: .* is not valid before/)
  expect(await verdicts(dayMs)).toEqual(['warn', 'ok']) // the authority issues for 30 days
  expect(await verdicts(25 * dayMs)).toEqual(['fail', 'ok'])
  const ended = shortened(await findingsOf(tlsFiles, env, 31 * dayMs))
  expect(ended).toEqual([
    expect.stringMatching(/^fail: .* ended on/),
    expect.stringMatching(/^ok: it is for DNS:bridge\.example/),
  ])

  chmodSync(server.keyFile, 0o644)
  expect((await findingsOf(tlsFiles, env)).at(-1)).toMatchObject({
    verdict: 'warn',
    line: `chmod o-r ${server.keyFile}`,
  })
  const nameless = { BRIDGE_TLS_CERT_FILE: authority.own.certFile, BRIDGE_TLS_KEY_FILE: authority.own.keyFile }
  expect((await findingsOf(tlsFiles, nameless))[1]).toMatchObject({
    verdict: 'warn',
    seen: expect.stringContaining('names no host'),
  })
  const others = { ...env, BRIDGE_TLS_KEY_FILE: authority.own.keyFile }
  expect(shortened(await findingsOf(tlsFiles, others))).toEqual([expect.stringMatching(/^fail: .* is not the key/)])
  const missing = { ...env, BRIDGE_TLS_CERT_FILE: '/nonexistent/tls.crt' }
  expect(shortened(await findingsOf(tlsFiles, missing))).toEqual([
    expect.stringMatching(/^fail: .*cannot read.*ENOENT/),
  ])
  expect(await findingsOf(tlsFiles, {})).toMatchObject([{ verdict: 'ok' }])
})

it('login files: authorities that end, keys that cannot be read, and authorities without TLS', async () => {
  using authority = new TestAuthority('devices of acme')
  const folder = newFolder()
  const keysFile = join(folder, 'keys.json')
  writeFileSync(keysFile, '{"keys":[]}')
  const env = {
    BRIDGE_AUTH_CLIENT_CAS: JSON.stringify([{ tenant: 'acme', file: authority.own.certFile }]),
    BRIDGE_AUTH_JWT: JSON.stringify([
      { tenant: 'acme', issuer: 'https://i.example', audience: 'fleet', algorithms: ['HS256'], keysFile },
    ]),
  }
  expect(shortened(await findingsOf(loginFiles, env, 10 * dayMs))).toEqual([
    expect.stringMatching(/^warn: the client authority CN=devices of acme ends in \d+ days/),
    expect.stringMatching(/^fail: auth\.jwt\[0\]\.keysFile cannot be used: .* has no key for HS256/),
    expect.stringMatching(/^fail: auth\.clientCas needs TLS/),
  ])
  writeFileSync(keysFile, JSON.stringify({ kty: 'oct', k: Buffer.alloc(32, 7).toString('base64url') }))
  const { BRIDGE_AUTH_JWT } = env
  expect(shortened(await findingsOf(loginFiles, { BRIDGE_AUTH_JWT }))).toEqual([
    expect.stringMatching(/^ok: 1 key\(s\)/),
  ])
  const noFile = { BRIDGE_AUTH_CLIENT_CAS: JSON.stringify([{ tenant: 'acme', file: join(folder, 'none.pem') }]) }
  expect((await findingsOf(loginFiles, noFile))[0]).toMatchObject({
    verdict: 'fail',
    seen: expect.stringContaining('ENOENT'),
  })
})

it('running: what an instance says of itself, and one that says nothing', async () => {
  const port = await freePort()
  let status = 503
  const ops = createHttpServer((_, answer) => {
    answer.writeHead(status, { 'content-type': 'application/json' })
    answer.end('{"ready":false,"eventLogAwayMs":12000}')
  })
  await listening(ops, port)
  const dataDir = newFolder()
  const env = { BRIDGE_DATA_DIR: dataDir }
  expect(shortened(await findingsOf(running, env))).toEqual(['ok: nothing runs here'])
  writeState(dataDir, `http://127.0.0.1:${port}`)
  expect((await findingsOf(running, env))[0]).toMatchObject({
    verdict: 'fail',
    seen: expect.stringContaining('"eventLogAwayMs":12000'),
  })
  status = 200
  expect(await findingsOf(running, env)).toMatchObject([{ verdict: 'ok' }])
  writeState(dataDir, `http://127.0.0.1:${await freePort()}`)
  expect((await findingsOf(running, env))[0]).toMatchObject({
    verdict: 'fail',
    seen: expect.stringContaining('does not answer'),
  })
})

/** As `up` leaves it, with this process as the one that runs. */
function writeState(dataDir: string, ops: string): void {
  const state = {
    ops,
    databaseUrl: 'postgres://fleetbridge@127.0.0.1:1/fleetbridge',
    pids: { fleetbridge: process.pid },
  }
  writeFileSync(join(dataDir, 'state.json'), JSON.stringify({ ...state, startMark: startMark(process.pid) }))
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-doctor-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function listening(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
}
