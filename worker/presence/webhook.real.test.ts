import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import pg from 'pg'
import { expect, it } from 'vitest'
import { loadConfig } from '#platform/config.ts'
import { silentLog } from '#platform/log.ts'
import { freePort } from '#test/servers/free-port.ts'
import { eventually, randomOf, type StoreDatabase, storeDatabase } from '../store/store.fixture.ts'
import { startWebhook, webhookTarget } from './webhook.ts'

const secret = 'a-secret-of-the-test-alone'

/** A receiver that remembers the ids that it has seen, as a good one does. */
class Receiver {
  readonly port: number
  readonly order: string[] = []
  readonly ids = new Set<string>()
  calls = 0
  answers: () => number = () => 204
  #server: Server | undefined

  constructor(port: number) {
    this.port = port
  }

  async start(): Promise<void> {
    const server = createServer((request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => (body += text))
      request.on('end', () => {
        this.calls++
        const timestamp = request.headers['fleetbridge-timestamp'] as string
        const wanted = Buffer.from(`v1=${createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')}`)
        const given = Buffer.from(request.headers['fleetbridge-signature'] as string)
        const status = given.length === wanted.length && timingSafeEqual(given, wanted) ? this.answers() : 401
        const id = request.headers['idempotency-key'] as string
        // Taken, and then the answer may be lost all the same.
        if ((status < 300 || status === 500) && !this.ids.has(id)) {
          this.ids.add(id)
          this.order.push(body)
        }
        response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end('thanks')
      })
    })
    this.#server = server
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve))
  }

  async kill(): Promise<void> {
    const server = this.#server
    server?.closeAllConnections()
    await new Promise((resolve) => server?.close(resolve))
  }

  of(subject: string): number[] {
    return this.order
      .map((text) => JSON.parse(text) as { subject: string; number: number })
      .filter((body) => body.subject === subject)
      .map(({ number }) => number)
  }
}

async function queue(database: StoreDatabase, subject: string, number: number): Promise<void> {
  const body = JSON.stringify({ subject, number })
  await database.rows('insert into webhook_delivery (event_id, subject, body) values ($1, $2, $3)', [
    randomUUID(),
    subject,
    body,
  ])
}

function start(database: StoreDatabase, port: number) {
  const pool = new pg.Pool({ connectionString: database.url, max: 2 })
  const { webhook } = loadConfig({ BRIDGE_WEBHOOK_URL: `http://127.0.0.1:${port}/hook`, BRIDGE_WEBHOOK_SECRET: secret })
  const target = webhookTarget(webhook)
  if (target === undefined) throw new Error('no target')
  const options = { pool, log: silentLog, firstRetryMs: 20, pollMs: 20 }
  const sender = startWebhook(target, options)
  return {
    async [Symbol.asyncDispose]() {
      await sender.close()
      await pool.end()
    },
  }
}

const waiting = (database: StoreDatabase) =>
  database.rows('select count(*)::int as count from webhook_delivery where done_at is null')

it('loses nothing and doubles nothing when the receiver is killed, fails now and then, and comes back', async () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
  console.info(`SEED=${seed}`)
  const random = randomOf(seed)
  await using database = await storeDatabase()
  const receiver = new Receiver(await freePort())
  receiver.answers = () => (random() < 0.7 ? 200 : random() < 0.5 ? 500 : 503)
  await receiver.start()
  // Two workers, one of them killed in the midst.
  await using _one = start(database, receiver.port)
  const other = start(database, receiver.port)
  const subjects = ['default/a', 'default/b', 'acme/a', 'default']
  const numbers = new Map(subjects.map((subject) => [subject, 0]))
  const some = async (count: number) => {
    for (let at = 0; at < count; at++) {
      const subject = subjects[Math.floor(random() * subjects.length)] as string
      const number = (numbers.get(subject) as number) + 1
      numbers.set(subject, number)
      await queue(database, subject, number)
    }
  }
  await some(40)
  await receiver.kill()
  await some(20)
  await other[Symbol.asyncDispose]()
  await new Promise((resolve) => setTimeout(resolve, 200))
  await receiver.start()
  await some(20)
  await expect.poll(async () => (await waiting(database))[0]?.count, { timeout: 40_000 }).toBe(0)
  for (const [subject, count] of numbers)
    expect(receiver.of(subject), subject).toEqual(Array.from({ length: count }, (_, index) => index + 1))
  expect(receiver.calls).toBeGreaterThan(80)
  await receiver.kill()
}, 60_000)

it('does not follow a redirection, and goes on trying', async () => {
  await using database = await storeDatabase()
  const receiver = new Receiver(await freePort())
  receiver.answers = () => 302
  await receiver.start()
  await using _sender = start(database, receiver.port)
  await queue(database, 'default/a', 1)
  await expect.poll(() => receiver.calls).toBeGreaterThan(1)
  expect(receiver.ids.size).toBe(0)
  receiver.answers = () => 200
  await eventually(() => waiting(database), [{ count: 0 }])
  await receiver.kill()
})

it.each([
  { BRIDGE_WEBHOOK_URL: 'ftp://host/' },
  { BRIDGE_WEBHOOK_URL: 'not an address' },
  { BRIDGE_WEBHOOK_URL: 'https://user:password-of-somebody@host/' },
])('refuses $BRIDGE_WEBHOOK_URL, and does not show it', (environment) => {
  const check = () => webhookTarget(loadConfig({ ...environment, BRIDGE_WEBHOOK_SECRET: secret }).webhook)
  expect(check).toThrow('BRIDGE_WEBHOOK_URL')
  expect(check).not.toThrow(environment.BRIDGE_WEBHOOK_URL)
})

it('wants a secret', () => {
  expect(() => webhookTarget(loadConfig({ BRIDGE_WEBHOOK_URL: 'http://host/' }).webhook)).toThrow(
    'BRIDGE_WEBHOOK_SECRET',
  )
})
