import { logLevel } from 'kafkajs'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { kafkaLogger } from './kafka-client.ts'

function recorder() {
  const lines: { level: number; msg: string; repeated?: number; stack?: string }[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) })
  return { lines, log }
}

const entryOf = (level: logLevel, message: string) => ({
  namespace: 'Connection',
  level,
  label: 'ERROR',
  log: { message, timestamp: '', stack: 'Error: at …', broker: 'b:1' },
})

it('logs a retry that repeats once in 30 s, with the count, as a warning and without its stack', () => {
  const { lines, log } = recorder()
  let now = 0
  const logger = kafkaLogger(log, () => now)
  for (; now < 29_000; now += 100) logger(entryOf(logLevel.ERROR, 'Connection error: connect ECONNREFUSED'))
  expect(lines).toHaveLength(1)
  now = 31_000
  logger(entryOf(logLevel.ERROR, 'Connection error: connect ECONNREFUSED'))
  expect(lines).toMatchObject([{ level: 40 }, { level: 40, repeated: 289, broker: 'b:1' }])
  expect(lines[0]?.stack).toBeUndefined()
})

it('keeps information for debugging out of the log', () => {
  const { lines, log } = recorder()
  kafkaLogger(log)(entryOf(logLevel.INFO, 'Pausing fetching from 2 topics'))
  expect(lines).toEqual([])
})
