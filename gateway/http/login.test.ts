import { describe, expect, it, vi } from 'vitest'
import type { AuthRefusal, Presented } from '../auth/authenticator.ts'
import { LoginGuard } from '../auth/login-guard.ts'
import type { Principal } from '../auth/principal.ts'
import { requestText, startSource, TestAuthenticator, tokens } from './http-source.fixture.ts'

const body = '{"values":{"t":1}}'
const wrongToken = `fb_${'A'.repeat(43)}`
const rightToken = `fb_${'B'.repeat(43)}`
const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

/** Answers when the test says so. */
class SlowAuthenticator extends TestAuthenticator {
  readonly waiting: ((answer: Principal | AuthRefusal) => void)[] = []
  readonly fails: ((error: Error) => void)[] = []

  override authenticate(presented: Presented) {
    this.asked.push([presented.secret, presented.username])
    return new Promise<Principal | AuthRefusal>((resolve, reject) => {
      this.waiting.push(resolve)
      this.fails.push(reject)
    }) as never
  }
}

const pump = new TestAuthenticator().authenticate({ secret: tokens.pump }) as Principal

async function startSlow() {
  const authenticator = new SlowAuthenticator()
  const started = await startSource({}, {}, { authenticator })
  const asked = (count: number) =>
    vi.waitUntil(() => authenticator.waiting.length === count, { timeout: 3000, interval: 2 })
  const inHand = async () => {
    const metric = await started.metrics.registry.getSingleMetric('fleetbridge_http_in_hand_bytes')?.get()
    return metric?.values[0]?.value
  }
  return { ...started, authenticator, askedFor: asked, inHand }
}

describe('a login that takes time', () => {
  it('is waited for: the body is not read, nor asked for, before', async () => {
    const { raw, authenticator, pipeline, askedFor } = await startSlow()
    const client = await raw()
    client.write(requestText('/v1/telemetry', body, ['Expect: 100-continue']))
    await askedFor(1)
    expect(client.text).toBe('')
    authenticator.waiting[0]?.(pump)
    await client.until(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 202 /)
    expect(pipeline.payloads).toEqual([body])
  })

  it('that is refused: 401, and the connection goes on', async () => {
    const { raw, authenticator, pipeline, askedFor } = await startSlow()
    const client = await raw()
    client.write(requestText('/v1/telemetry', body))
    await askedFor(1)
    authenticator.waiting[0]?.('unknown')
    await client.until(/^HTTP\/1\.1 401 /)
    client.write(requestText('/v1/telemetry', body))
    await askedFor(2)
    authenticator.waiting[1]?.(pump)
    await client.until(/HTTP\/1\.1 202 /)
    expect(pipeline.payloads).toEqual([body])
  })

  it('is forgotten when the client goes', async () => {
    const { raw, authenticator, pipeline, askedFor, inHand } = await startSlow()
    const client = await raw()
    client.write(requestText('/v1/telemetry', body))
    await askedFor(1)
    expect(await inHand()).toBeGreaterThan(0)
    client.socket.destroy()
    await vi.waitUntil(async () => (await inHand()) === 0, { timeout: 3000, interval: 2 })
    authenticator.waiting[0]?.(pump)
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(pipeline.payloads).toEqual([])
  })

  it('that fails is a 500, told in the log without what was presented', async () => {
    const { post, authenticator, logged, askedFor } = await startSlow()
    const answer = post('/v1/telemetry', body)
    await askedFor(1)
    authenticator.fails[0]?.(new Error('no threads'))
    expect((await answer).status).toBe(500)
    expect(logged.join()).toContain('no threads')
    expect(logged.join()).not.toContain(tokens.pump)
  })

  it('is not waited for when the gateway stops', async () => {
    const { post, source, askedFor } = await startSlow()
    const answer = post('/v1/telemetry', body)
    await askedFor(1)
    const closed = source.close()
    expect((await answer).status).toBe(503)
    await closed
  })

  it('garbage behind such a request does not take its answer', async () => {
    const { raw, authenticator, askedFor } = await startSlow()
    const client = await raw()
    client.write(`${requestText('/v1/telemetry', body)}garbage\r\n\r\n`)
    await askedFor(1)
    authenticator.waiting[0]?.(pump)
    await client.closed
    expect(client.text).toMatch(/^HTTP\/1\.1 (202|400) /)
    expect(client.text.match(/HTTP\/1\.1 /g)).toHaveLength(1)
  })
})

describe('failed logins', () => {
  it('past the limit are 429 with Retry-After; a right token from the same address is let in at once', async () => {
    const { post, authenticator } = await startSource({}, {}, { loginGuard: new LoginGuard('3:60') })
    authenticator.authenticate = ({ secret }) => (secret === rightToken ? (pump as never) : 'unknown')
    const login = async (token: string) => {
      const response = await post('/v1/telemetry', body, { authorization: `Bearer ${token}` })
      return [response.status, response.headers.get('retry-after')]
    }
    for (let n = 0; n < 3; n++) expect(await login(wrongToken)).toEqual([401, null])
    expect(await login(wrongToken)).toEqual([429, '5'])
    const began = performance.now()
    expect(await login(rightToken)).toEqual([202, null])
    expect(performance.now() - began).toBeLessThan(1000)
  })

  it('a password waits its turn before it is looked at, and then a right one is let in', async () => {
    const authenticator = new (class extends TestAuthenticator {
      override authenticate(presented: Presented) {
        this.asked.push([presented.secret, presented.username])
        return presented.secret === 'a chosen password' ? (pump as never) : ('unknown' as const)
      }
    })()
    const { post } = await startSource({}, {}, { authenticator, loginGuard: new LoginGuard('4:1') })
    const login = async (password: string) =>
      (await post('/v1/telemetry', body, { authorization: basic(`pump-1:${password}`) })).status
    await Promise.all([1, 2, 3, 4].map((n) => login(`guess ${n}`)))
    authenticator.asked.length = 0
    const began = performance.now()
    const answer = login('a chosen password')
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(authenticator.asked, 'not looked at yet').toEqual([])
    expect(await answer).toBe(202)
    expect(performance.now() - began).toBeGreaterThan(100)
  })
})

it('every request of a connection is asked anew: a revoked credential ends with the next', async () => {
  const { raw, authenticator, pipeline } = await startSource()
  const client = await raw()
  client.write(requestText('/v1/telemetry', body))
  await client.until(/HTTP\/1\.1 202 /)
  authenticator.authenticate = () => 'disabled'
  client.write(requestText('/v1/telemetry', body))
  await client.until(/HTTP\/1\.1 401 [\s\S]*credential_disabled/)
  expect(pipeline.payloads).toEqual([body])
})

it('an operator sends no telemetry', async () => {
  const { post, authenticator, pipeline } = await startSource()
  authenticator.authenticate = () => ({ ...pump, operator: true, allows: () => true })
  const response = await post('/v1/telemetry', body)
  expect(response.status).toBe(403)
  expect(await response.json()).toMatchObject({ code: 'not_allowed' })
  expect(pipeline.payloads).toEqual([])
})
