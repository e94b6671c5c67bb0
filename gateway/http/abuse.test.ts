import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { seeded } from '../mqtt/testing/seeded.ts'
import { createNormalizer } from '../normalize/create-normalizer.ts'
import { stored } from '../verdict.ts'
import { parkedAs, startSource, tokens } from './http-source.fixture.ts'

/** What is sent, and whether it may be taken: `wrong` never, `odd` perhaps, since it is only unusual. */
interface Abuse {
  readonly name: string
  readonly bytes: Buffer
  readonly verdict: 'wrong' | 'odd'
  /** The client stops in the middle and hangs up. */
  readonly hangsUp?: boolean
}

const good = '{"values":{"t":1}}'
const line = `POST /v1/telemetry HTTP/1.1\r\n`
const login = `Authorization: Bearer ${tokens.pump}\r\n`
const host = 'Host: x\r\n'

type Random = (below: number) => number

const pick = <Item>(random: Random, items: readonly Item[]): Item => items[random(items.length)] as Item
const noise = (random: Random, length: number) => Buffer.from(Array.from({ length }, () => random(256)))
const letters = (random: Random, length: number) =>
  Array.from({ length }, () => String.fromCharCode(97 + random(26))).join('')

function posted(body: string | Buffer, headers = '', path = '/v1/telemetry'): Buffer {
  const bytes = Buffer.from(body)
  const head = `POST ${path} HTTP/1.1\r\n${host}${login}Content-Length: ${bytes.length}\r\n${headers}\r\n`
  return Buffer.concat([Buffer.from(head, 'latin1'), bytes])
}

/** Each makes one abuse, a different one for other numbers. */
const makers: Record<string, (random: Random) => Pick<Abuse, 'bytes' | 'verdict'> & { hangsUp?: boolean }> = {
  'noise instead of a head': (random) => ({ bytes: noise(random, 1 + random(2000)), verdict: 'wrong' }),
  'a head with a broken byte': (random) => {
    const bytes = Buffer.from(`${line}${host}${login}Content-Length: 18\r\n\r\n${good}`)
    bytes[random(line.length + host.length)] = pick(random, [0, 1, 10, 13, 127, 128, 255])
    return { bytes, verdict: 'odd' }
  },
  'Content-Length and Transfer-Encoding': (random) => {
    const both = [`Content-Length: ${random(40)}\r\n`, 'Transfer-Encoding: chunked\r\n']
    if (random(2) === 0) both.reverse()
    return {
      bytes: Buffer.from(`${line}${host}${login}${both.join('')}\r\n12\r\n${good}\r\n0\r\n\r\n`),
      verdict: 'wrong',
    }
  },
  'two lengths': (random) => ({
    bytes: Buffer.from(`${line}${host}${login}Content-Length: 18\r\nContent-Length: ${19 + random(9)}\r\n\r\n${good}`),
    verdict: 'wrong',
  }),
  'a length that is none': (random) => ({
    bytes: Buffer.from(
      `${line}${host}${login}Content-Length: ${pick(random, ['-1', '+18', '0x12', '1e1', '18,18', '18 18', '٣', `${random(10)}a`, '99999999999999999999'])}\r\n\r\n${good}`,
    ),
    verdict: 'wrong',
  }),
  'another transfer coding': (random) => ({
    bytes: Buffer.from(
      `${line}${host}${login}Transfer-Encoding: ${pick(random, ['gzip', 'identity', 'chunked, gzip', 'xchunked', 'chunked\x0b', ' chunked;x', `${letters(random, 5)}`])}\r\n\r\n12\r\n${good}\r\n0\r\n\r\n`,
    ),
    verdict: 'wrong',
  }),
  'a chunk size that is none': (random) => ({
    bytes: Buffer.from(
      `${line}${host}${login}Transfer-Encoding: chunked\r\n\r\n${pick(random, ['-12', '0x12', 'g', '1 2', 'ffffffffffffffff1', ';', '12\n'])}${random(9)}\r\n${good}\r\n0\r\n\r\n`,
    ),
    verdict: 'wrong',
  }),
  'a folded line': (random) => ({
    bytes: Buffer.from(
      `${line}${host}Authorization: Bearer\r\n${pick(random, [' ', '\t'])}${tokens.pump}x${random(99)}\r\nContent-Length: 18\r\n\r\n${good}`,
    ),
    verdict: 'wrong',
  }),
  'a space before the colon': (random) => ({
    bytes: Buffer.from(`${line}${host}${login}Content-Length${' '.repeat(1 + random(3))}: 18\r\n\r\n${good}`),
    verdict: 'wrong',
  }),
  'a bare line feed or carriage return': (random) => ({
    bytes: Buffer.from(
      `${line}${host}${login}X: a${pick(random, ['\n', '\r'])}Y${random(99)}: b\r\nContent-Length: 18\r\n\r\n${good}`,
    ),
    verdict: 'odd',
  }),
  'another method': (random) => ({
    bytes: Buffer.from(
      `${pick(random, ['GET', 'PUT', 'TRACE', 'CONNECT', 'PRI', 'post', 'POSTS', 'M-SEARCH', letters(random, 8).toUpperCase()])} /v1/telemetry HTTP/1.1\r\n${host}${login}Content-Length: 18\r\n\r\n${good}`,
    ),
    verdict: 'wrong',
  }),
  'another version': (random) => ({
    bytes: Buffer.from(
      `POST /v1/telemetry ${pick(random, ['HTTP/2.0', 'HTTP/0.9', 'HTTP/1.2', 'http/1.1', 'HTTP/1.1.1', 'RTSP/1.0', ''])}\r\n${host}${login}Content-Length: 18\r\nX: ${random(99)}\r\n\r\n${good}`,
    ),
    verdict: 'odd',
  }),
  'headers without end': (random) => ({
    bytes: posted(good, `X-${letters(random, 5)}: ${'y'.repeat(17_000 + random(9000))}\r\n`),
    verdict: 'wrong',
  }),
  'very many headers': (random) => ({
    bytes: posted(good, Array.from({ length: 3000 + random(500) }, (_, n) => `a${n}:b\r\n`).join('')),
    verdict: 'wrong',
  }),
  'a path that is not encoded as it should be': (random) => ({
    bytes: posted(
      good,
      '',
      `/v1/devices/${pick(random, ['%', '%z', '%zz', '%c3', '%E2%82', '%ff%fe', '%u0041'])}${random(99)}/telemetry`,
    ),
    verdict: 'wrong',
  }),
  'a path out of the place': (random) => ({
    bytes: posted(
      good,
      '',
      `/${pick(random, ['../v1/telemetry', 'v1//telemetry', 'v1/./telemetry', '__proto__', 'v1/telemetry;x', 'v1\\telemetry', 'V1/TELEMETRY'])}${random(99)}`,
    ),
    verdict: 'wrong',
  }),
  'another device': (random) => ({
    bytes: posted(
      good,
      '',
      `/v1/devices/${pick(random, ['pump-2', '__proto__', 'constructor', '%00', 'a%2Fb', '..', '%2e%2e', 'x'.repeat(400)])}${random(99)}/telemetry`,
    ),
    verdict: 'wrong',
  }),
  'Authorization that is none': (random) => ({
    bytes: Buffer.from(
      `${line}${host}Authorization: ${pick(random, ['Bearer', 'Bearer  ', `Bearer ${letters(random, 43)}`, `Digest ${letters(random, 9)}`, 'Basic !!!!', 'Basic Og==', `Basic ${noise(random, 30).toString('base64')}`, 'Bearer __proto__', `Bearer ${'x'.repeat(9000)}`, `${tokens.pump}`, 'Bearer null', `Basic ${Buffer.from(`pump-2:${tokens.pump}`).toString('base64')}`])}\r\nContent-Length: 18\r\n\r\n${good}`,
      'latin1',
    ),
    verdict: 'wrong',
  }),
  'gzip that is none': (random) => {
    const bytes = random(2) === 0 ? noise(random, 5 + random(500)) : gzipSync(good).subarray(0, 1 + random(25))
    return { bytes: posted(bytes, 'Content-Encoding: gzip\r\n'), verdict: 'wrong' }
  },
  'a bomb': (random) => ({
    bytes: posted(gzipSync(Buffer.alloc(3_000_000 + random(1_000_000), 0x20)), 'Content-Encoding: gzip\r\n'),
    verdict: 'wrong',
  }),
  'another content coding': (random) => ({
    bytes: posted(
      good,
      `Content-Encoding: ${pick(random, ['br', 'deflate', 'zstd', 'gzip, gzip', 'gzip;q=1', letters(random, 6)])}\r\n`,
    ),
    verdict: 'wrong',
  }),
  'a body that stops': (random) => ({
    bytes: Buffer.from(`${line}${host}${login}Content-Length: ${19 + random(5000)}\r\n\r\n${good}`),
    verdict: 'wrong',
    hangsUp: true,
  }),
  'a head that stops': (random) => ({
    bytes: Buffer.from(`${line}${host}${login}Content-Length: 18\r\n`).subarray(0, 1 + random(70)),
    verdict: 'wrong',
    hangsUp: true,
  }),
  'a body beyond the bound': (random) => ({
    bytes: Buffer.from(`${line}${host}${login}Content-Length: ${1_048_577 + random(2 ** 31)}\r\n\r\n${good}`),
    verdict: 'wrong',
    hangsUp: true,
  }),
  'garbage behind a request': (random) => ({
    bytes: Buffer.concat([posted('{}'), noise(random, 20 + random(300))]),
    verdict: 'odd', // the request itself is good, and holds no reading
  }),
  'another charset': (random) => ({
    bytes: posted(
      good,
      `Content-Type: application/json; charset=${pick(random, ['latin1', 'utf-16', '"iso-8859-1"', 'utf-7', letters(random, 6)])}\r\n`,
    ),
    verdict: 'wrong',
  }),
  'another content type': (random) => ({
    bytes: posted(
      good,
      `Content-Type: ${pick(random, ['application/xml', 'multipart/form-data; boundary=x', 'image/png', letters(random, 7)])}\r\n`,
    ),
    verdict: 'wrong',
  }),
  'bytes that are no UTF-8': (random) => {
    const bytes = Buffer.from('{"values":{"text":"................"}}')
    bytes.set(
      pick(random, [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xc0, 0xaf]]),
      19 + random(9),
    )
    return { bytes: posted(bytes), verdict: 'wrong' }
  },
  'nesting without end': (random) => {
    const depth = 40 + random(50_000)
    const [open, shut] = pick(random, [
      ['[', ']'],
      ['{"a":', '}'],
    ] as const)
    return { bytes: posted(`{"values":{"a":${open.repeat(depth)}1${shut.repeat(depth)}}}`), verdict: 'wrong' }
  },
  'JSON that is none': (random) => ({
    bytes: posted(
      pick(random, [
        '{"values":',
        '{"values":{"t":1}}}',
        "{'values':{}}",
        '{"values":{"t":NaN}}',
        '{"values":{"t":01}}',
        '[1,]',
        '\u0000',
        '{"values":{"t":1e999}}',
      ]) + ' '.repeat(random(9)),
    ),
    verdict: 'wrong',
  }),
  'values of the wrong type': (random) => ({
    bytes: posted(
      pick(random, [
        '{"values":{"t":[]}}',
        '{"values":{"t":{"value":{}}}}',
        '{"values":[1]}',
        '{"values":"1"}',
        '{"ts":{},"values":{"t":1}}',
        '{"ts":"yesterday","values":{"t":1}}',
        '{"ts":true,"values":{"t":1}}',
        '{"values":{"":1}}',
        '{"values":{"t":"\\u0000"}}',
      ]) + ' '.repeat(random(9)),
    ),
    verdict: 'odd',
  }),
  'names with a meaning in JavaScript': (random) => ({
    bytes: posted(
      `{"values":{"${pick(random, ['__proto__', 'constructor', 'toString', 'hasOwnProperty'])}":${pick(random, ['{"polluted":true}', '1', '"x"', '[]', 'null'])},"n":${random(99)}}}`,
    ),
    verdict: 'odd',
  }),
}

const perMaker = 18
const concurrency = 16

it('generated abuses: nothing wrong is taken, nothing breaks, and a bystander is served', async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
  console.log(`HTTP abuse: seed ${seed}`)
  const random = seeded(seed)
  const { source, pipeline, post, logged } = await startSource({ holdMs: 1000 })
  const normalizer = createNormalizer({ retentionMs: undefined, authenticator: { admitDevice: () => 'admitted' } })
  // The decoders say what is wrong with a body, as behind the real pipeline.
  pipeline.decide = (ingress) => {
    const [outcome] = normalizer.normalize([ingress])
    if (outcome?.kind === 'dead') return parkedAs(outcome.deadLetter.code)
    if (outcome?.kind === 'refused') return { kind: 'refused', code: 'not_allowed', message: 'no' }
    if (outcome?.kind === 'ignored') return { kind: 'ignored' }
    return stored
  }
  const abuses: Abuse[] = Object.entries(makers).flatMap(([name, make]) =>
    Array.from({ length: perMaker }, () => ({ name, ...make(random) })),
  )
  expect(abuses.length).toBeGreaterThanOrEqual(500)
  await post('/v1/telemetry', good)
  globalThis.gc?.()
  const before = process.memoryUsage().heapUsed
  const waiting = [...abuses]
  const statuses = new Map<number, number>()
  const faults: string[] = []
  async function worker(): Promise<void> {
    for (let abuse = waiting.shift(); abuse !== undefined; abuse = waiting.shift()) {
      const answers = await answersTo(source.port, abuse)
      for (const status of answers) {
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        const isTaken = status < 300 && abuse.verdict === 'wrong'
        if (isTaken || (status >= 500 && status !== 503))
          faults.push(`${status} ${abuse.name}: ${abuse.bytes.toString('latin1', 0, 300)}`)
      }
    }
  }
  let isOver = false
  const bystander = (async () => {
    while (!isOver) {
      expect((await post('/v1/telemetry', '{"values":{"bystander":1}}')).status).toBe(202)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  })()
  const workers = Promise.all(Array.from({ length: concurrency }, worker)).finally(() => {
    isOver = true
  })
  await Promise.all([workers, bystander])
  expect(faults, `seed ${seed}`).toEqual([])
  expect(logged, 'nothing failed').toEqual([])
  expect(Object.getPrototypeOf({}), 'nothing was polluted').toBe(Object.prototype)
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  expect(statuses.get(400), 'most are 400').toBeGreaterThan(100)
  pipeline.envelopes.length = 0
  globalThis.gc?.()
  expect(process.memoryUsage().heapUsed - before, 'bytes that stay').toBeLessThan(64 * 1024 * 1024)
}, 20_000)

/** The statuses that come back until the server hangs up or falls silent. */
function answersTo(port: number, { bytes, hangsUp }: Abuse): Promise<number[]> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    let text = ''
    const silence = setTimeout(() => socket.destroy(), 500)
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      // One answer is enough: what is behind it belongs to no request of ours, or shows within moments.
      setTimeout(() => socket.destroy(), 30)
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(silence)
      resolve([...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status)))
    })
    socket.write(bytes)
    if (hangsUp === true) setTimeout(() => socket.end(), 5)
  })
}
