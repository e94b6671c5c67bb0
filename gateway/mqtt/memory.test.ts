import { describe, expect, it } from 'vitest'
import type { Principal } from '../auth/principal.ts'
import { Clients } from './client.ts'
import { RecentAnswers, rememberedMs, UnsentAnswers } from './dup-memory.ts'
import { Pacing } from './pacing.ts'

describe('RecentAnswers', () => {
  it('finds an answer for a minute, by packet id and checksum', () => {
    const answers = new RecentAnswers()
    expect(answers.find(1, 10, 0)).toBeUndefined()
    answers.add(1, 10, 0x99, 1000)
    expect(answers.find(1, 10, 1000 + rememberedMs)).toBe(0x99)
    expect(answers.find(1, 10, 1001 + rememberedMs)).toBeUndefined()
    expect(answers.find(1, 11, 1000)).toBeUndefined()
    expect(answers.find(2, 10, 1000)).toBeUndefined()
  })

  it('remembers the last 128 of many, and all of a slow minute', () => {
    const answers = new RecentAnswers()
    for (let n = 1; n <= 5000; n++) answers.add(n % 65_536, n, 0, n / 100)
    for (let n = 5000; n > 5000 - 100; n--) expect(answers.find(n, n, 50), `message ${n}`).toBe(0)
    expect(answers.find(1, 1, 50)).toBeUndefined()
    const slow = new RecentAnswers()
    for (let n = 1; n <= 600; n++) slow.add(n, n, 0, n * 1000)
    for (let n = 600; n >= 541; n--) expect(slow.find(n, n, 600_000), `message ${n}`).toBe(0)
    expect(slow.find(539, 539, 600_000)).toBeUndefined()
  })
})

it('UnsentAnswers are bounded and end after a minute', () => {
  const answers = new UnsentAnswers()
  for (let n = 1; n <= 1500; n++) answers.add(1, n, n, 0, 1000)
  expect(answers.find(1, 500, 500, 1000)).toBeUndefined()
  expect(answers.find(1, 501, 501, 1000)).toBe(0)
  expect(answers.find(2, 501, 501, 1000)).toBeUndefined()
  expect(answers.find(1, 501, 501, 1001 + rememberedMs)).toBeUndefined()
  answers.prune(1001 + rememberedMs)
  expect(answers.isEmpty).toBe(true)
})

describe('Pacing', () => {
  it('lets three refusals in a minute pass, then delays 1, 2, 4 … 30 s', () => {
    const pacing = new Pacing()
    const delays: number[] = []
    for (let n = 0; n < 9; n++) {
      pacing.notAllowed(n, 1000)
      delays.push(pacing.delayMs(1000))
    }
    expect(delays).toEqual([0, 0, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000])
    expect(pacing.delayMs(32_000)).toBe(0)
    pacing.notAllowed(1, 62_000)
    expect(pacing.delayMs(62_000)).toBe(0)
  })

  it('lets three take-overs in a minute pass, then delays, and forgets about it when it is calm', () => {
    const pacing = new Pacing()
    const delays = [0, 1000, 2000, 3000, 5000].map((nowMs) => {
      pacing.takenOver(nowMs)
      return pacing.delayMs(nowMs)
    })
    expect(delays).toEqual([0, 0, 1000, 2000, 4000])
    pacing.takenOver(70_000)
    expect(pacing.delayMs(70_000)).toBe(0)
  })

  it('a rate limit delays for as long as it takes, at most 30 s', () => {
    const pacing = new Pacing()
    pacing.rateLimited(1200, 1000)
    expect(pacing.delayMs(1000)).toBe(1200)
    pacing.rateLimited(500_000, 1000)
    expect(pacing.delayMs(1000)).toBe(30_000)
  })

  it('counts refusals of the same bytes, for a bounded number of them', () => {
    const pacing = new Pacing()
    pacing.notAllowed(7, 0)
    pacing.notAllowed(7, 0)
    expect(pacing.timesRefused(7)).toBe(2)
    for (let n = 100; n < 200; n++) pacing.notAllowed(n, 0)
    expect(pacing.timesRefused(7)).toBe(0)
    expect(pacing.timesRefused(199)).toBe(1)
  })
})

describe('Clients', () => {
  const principal: Principal = {
    tenant: 'default',
    device: 'a/b',
    fleet: false,
    credentialId: 'c',
    operator: false,
    expiresAtMs: Number.POSITIVE_INFINITY,
    allows: () => false,
  }

  it('keep one session of a device: a newer one ends the older', () => {
    const forgotten: string[] = []
    const clients = new Clients((client) => forgotten.push(client.id))
    for (let n = 0; n < 100; n++) {
      const client = clients.get(principal, `id-${n}`)
      client.sessionSeconds = 60
      client.filters.set('x/errors', { inside: 'x/errors', hidden: 'x/', shown: '', qos: 0, id: undefined })
      clients.idle(client, n)
    }
    expect(forgotten).toEqual(Array.from({ length: 99 }, (_, n) => `default/a%2Fb/id-${n}`))
    expect(clients.get(principal, 'id-99').filters.size).toBe(1)
    expect(clients.get(principal, 'id-98').filters.size).toBe(0)
  })

  it('leave the sessions alone that have a connection, or wait for one, and those of other devices', () => {
    const forgotten: string[] = []
    const clients = new Clients((client) => forgotten.push(client.id))
    const [live, waiting, mine] = ['live', 'waiting', 'mine'].map((id) => clients.get(principal, id))
    const theirs = clients.get({ ...principal, device: 'a' }, 'mine')
    if (live === undefined || waiting === undefined || mine === undefined) throw new Error('three clients')
    for (const client of [live, waiting, mine, theirs]) {
      client.sessionSeconds = 60
      client.filters.set('x/errors', { inside: 'x/errors', hidden: 'x/', shown: '', qos: 0, id: undefined })
    }
    live.connection = { onRoom() {}, takeOver() {} }
    waiting.waiting = live.connection
    clients.idle(theirs, 0)
    clients.idle(mine, 0)
    expect(forgotten).toEqual([])
    live.connection = undefined
    clients.keepOneSession(mine)
    expect(forgotten).toEqual(['default/a%2Fb/live'])
  })

  it('remember the answers of the 16 that went last, and no more', () => {
    const clients = new Clients(() => {})
    for (let n = 0; n < 40; n++) {
      const client = clients.get(principal, `id-${n}`)
      client.unsent.add(1, 7, 7, 0, n)
      clients.idle(client, n)
    }
    const remembered = Array.from({ length: 40 }, (_, n) => !clients.get(principal, `id-${n}`).unsent.isEmpty)
    expect(remembered).toEqual([...Array(24).fill(false), ...Array(16).fill(true)])
  })

  it('keeps a client with a connection, whatever its age', () => {
    const clients = new Clients(() => {})
    const client = clients.get(principal, 'x')
    client.connection = { onRoom() {}, takeOver() {} }
    clients.prune(1e9)
    expect(clients.get(principal, 'x')).toBe(client)
    client.connection = undefined
    clients.prune(1e9)
    expect(clients.get(principal, 'x')).not.toBe(client)
  })
})
