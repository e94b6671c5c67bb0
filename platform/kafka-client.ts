import { Kafka, type LogEntry, logLevel, type RetryOptions } from 'kafkajs'
import { replaceProduceEncoding } from './kafka-produce-encoding.ts'
import { overrideRequestQueueTimer } from './kafka-request-queue.ts'
import type { Log } from './log.ts'

/**
 * Tries on for ever at short intervals: kafkajs' own defaults give up after 7.7 s and wait up to 30 s between attempts.
 * With these a client is back 0.3-0.5 s after the broker's port.
 */
export const retryForEver: RetryOptions = {
  initialRetryTime: 100,
  maxRetryTime: 500,
  retries: Number.MAX_SAFE_INTEGER,
}

export const requestTimeoutMs = 5000

/** How soon producers and consumers see partitions that were added; kafkajs' own five minutes would leave them unused and unread for as long. */
export const metadataMaxAgeMs = 5000
const connectionTimeoutMs = 3000

/** Every Kafka client of the process is made here. */
export function createKafka(brokers: readonly string[], clientId: string, log: Log, retry = retryForEver): Kafka {
  overrideRequestQueueTimer()
  replaceProduceEncoding()
  return new Kafka({
    clientId,
    brokers: [...brokers],
    retry,
    requestTimeout: requestTimeoutMs,
    connectionTimeout: connectionTimeoutMs,
    logLevel: logLevel.INFO,
    logCreator: () => kafkaLogger(log),
  })
}

const quietMs = 30_000
const maxRemembered = 200

/**
 * kafkajs logs every attempt of every retry as an error, ten a second for each connection while a broker is away. Here a text is logged
 * once in 30 s, with the number of its repetitions; what it calls an error is a warning to us, since it tries again; the rest is for debugging.
 */
export function kafkaLogger(log: Log, now: () => number = Date.now): (entry: LogEntry) => void {
  const seen = new Map<string, { since: number; repeated: number }>()
  return ({
    level,
    namespace,
    label,
    log: { message, stack: _stack, timestamp: _timestamp, logger: _logger, ...details },
  }) => {
    if (level > logLevel.WARN) {
      log.debug({ kafkajs: namespace, ...details }, message)
      return
    }
    const key = `${namespace}|${label}|${message.slice(0, 120)}`
    const earlier = seen.get(key)
    if (earlier !== undefined && now() - earlier.since < quietMs) {
      earlier.repeated++
      return
    }
    if (seen.size >= maxRemembered) seen.clear()
    seen.set(key, { since: now(), repeated: 0 })
    const fields = { kafkajs: namespace, ...details, ...(earlier?.repeated && { repeated: earlier.repeated }) }
    if (level === logLevel.ERROR) log.warn(fields, message)
    else log.info(fields, message)
  }
}
