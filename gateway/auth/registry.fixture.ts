import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect as connectTo, createServer, type Socket } from 'node:net'
import pg from 'pg'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { type Registry, type RegistryOptions, startRegistry } from './registry.ts'

type Wanted = Partial<Omit<RegistryOptions, 'limits'> & RegistryOptions['limits']>

/** A database of its own, what an operator does in it, and gateways that read it. */
export async function openRegistryDatabase() {
  const database = await migratedDatabase()
  const client = new pg.Client(database.url)
  await client.connect()

  async function addCredential(
    device: string,
    more: { fleet?: boolean; pattern?: string; expires?: string } = {},
  ): Promise<string> {
    const token = `fb_${randomBytes(32).toString('base64url')}`
    await client.query(
      `WITH d AS (
         INSERT INTO device (tenant_id, external_id) SELECT id, $1 FROM tenant WHERE name = 'default'
         ON CONFLICT (tenant_id, external_id) DO UPDATE SET external_id = excluded.external_id RETURNING id)
       INSERT INTO credential (device_id, secret_hash, fleet, pattern, expires_at) SELECT id, $2, $3, $4, $5 FROM d`,
      [device, sha256(token), more.fleet ?? false, more.pattern ?? null, more.expires ?? null],
    )
    return token
  }

  return {
    url: database.url,
    client,
    addCredential,
    async addCredentials(devices: readonly string[]): Promise<string[]> {
      const tokens: string[] = []
      for (const device of devices) tokens.push(await addCredential(device))
      return tokens
    },
    async addDevice(device: string): Promise<number> {
      const { rows } = await client.query<{ id: number }>(
        `INSERT INTO device (tenant_id, external_id) SELECT id, $1 FROM tenant WHERE name = 'default' RETURNING id`,
        [device],
      )
      return (rows[0] as { id: number }).id
    },
    start({ firstSightDevices = 3, firstSightPerMinute = 60, ...more }: Wanted = {}): Promise<Registry> {
      return startRegistry({
        databaseUrl: database.url,
        auth: { jwt: [], clientCas: [] },
        limits: { firstSightDevices, firstSightPerMinute },
        onLimitOverrides: () => {},
        log: silentLog,
        metrics: createMetrics('test'),
        ...more,
      })
    },
    async [Symbol.asyncDispose]() {
      await client.end().catch(() => {})
      await database[Symbol.asyncDispose]()
    },
  }
}

export type RegistryDatabase = Awaited<ReturnType<typeof openRegistryDatabase>>

export function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

export function deviceOf(registry: Registry, token: string, username?: string): string {
  const answer = registry.authenticate({ secret: token, username })
  if (answer instanceof Promise) throw new Error('a token is looked up at once')
  return typeof answer === 'string' ? answer : answer.device
}

/** Stands before Postgres, and can be cut off. */
export async function startProxy(databaseUrl: string) {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  const make = () =>
    createServer((near) => {
      const far = connectTo(Number(target.port || 5432), target.hostname)
      for (const socket of [near, far]) {
        sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          sockets.delete(socket)
          near.destroy()
          far.destroy()
        })
      }
      near.pipe(far)
      far.pipe(near)
    })
  let server = make().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const cut = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  const url = new URL(databaseUrl)
  url.hostname = '127.0.0.1'
  url.port = String(port)
  return {
    url: url.href,
    cut,
    async mend() {
      server = make().listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
    async [Symbol.asyncDispose]() {
      cut()
    },
  }
}
