import { once } from 'node:events'
import { Redis } from 'ioredis'
import { BridgeError } from './errors.ts'

/** Why the local share answered: no connection, no answer in time, or an answer that is an error (OOM, READONLY, …). */
export type AwayReason = 'unreachable' | 'timeout' | 'error'
export const awayReasons = ['unreachable', 'timeout', 'error'] as const satisfies readonly AwayReason[]

/**
 * A connection that is not opened yet, reconnects for ever, and never keeps a command for later: what cannot be sent or is not
 * answered fails at once, since its caller has another answer.
 * @throws BridgeError BRIDGE_CONFIG_INVALID without the URL, which may hold a password
 */
export function createRedis(redisUrl: string): Redis {
  if (!isRedisUrl(redisUrl))
    throw new BridgeError(
      'BRIDGE_CONFIG_INVALID',
      'REDIS_URL must be redis://user:password@host:port/database, rediss://… for TLS, or the path of a socket; special characters in user and password are percent-encoded (/ is %2F, @ is %40, # is %23)',
    )
  return new Redis(redisUrl, {
    lazyConnect: true,
    connectionName: 'fleetbridge-gateway',
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    // A take that was sent again after a reconnect would be charged twice.
    autoResendUnfulfilledCommands: false,
    connectTimeout: 1000,
    maxLoadingRetryTime: 500,
    // After a failover the address may lead to the new primary.
    reconnectOnError: ({ message }) => message.startsWith('READONLY'),
    // A Redis that is frozen or cut off without a reset is only noticed by its silence.
    socketTimeout: 2000,
    disconnectTimeout: 100,
    retryStrategy: (attempts) => Math.min(2000, 100 * 2 ** Math.min(attempts - 1, 5)) + Math.random() * 100,
  })
}

/** Stricter than ioredis, which takes a part of a password with an unescaped slash for the host, and then logs would show it. */
function isRedisUrl(text: string): boolean {
  if (text.startsWith('/') && !text.startsWith('//')) return true
  if (!/^rediss?:\/\//.test(text) || !URL.canParse(text)) return false
  const { hostname, pathname, search, hash } = new URL(text)
  return hostname !== '' && /^(\/\d*)?$/.test(pathname) && !search.includes('@') && hash === ''
}

/** Where it is, without user and password. */
export function addressOf({ options }: Redis): string {
  return options.path ?? `${options.host}:${options.port}/${options.db ?? 0}`
}

class LateError extends Error {}

/** Rejects when the answer is not there in time. */
export function within<Answer>(ms: number, answer: Promise<Answer>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      // After a pause of this process the answer may be in the socket already: one turn of the event loop reads it.
      setImmediate(() => reject(new LateError(`no answer within ${ms} ms`)))
    }, ms)
    answer.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error: unknown) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}

export function awayReasonOf(error: unknown): AwayReason {
  if (error instanceof LateError) return 'timeout'
  return (error as Error).name === 'ReplyError' ? 'error' : 'unreachable'
}

/** Says goodbye where Redis still listens, and never waits long where it does not. */
export async function closeRedis(redis: Redis, goodbye: () => Promise<unknown>): Promise<void> {
  if (redis.status === 'ready') await within(200, Promise.all([goodbye(), redis.quit()])).catch(() => undefined)
  const open = redis.stream !== undefined && !redis.stream.destroyed
  const ended = open ? within(500, once(redis, 'end')).catch(() => undefined) : undefined
  redis.disconnect()
  await ended
}
