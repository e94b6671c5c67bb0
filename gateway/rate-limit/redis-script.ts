import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'

/** A Lua script that lies beside its adapter, known to Redis by its hash. */
export interface RedisScript {
  readonly lua: string
  readonly sha: string
}

export function readScript(file: URL): RedisScript {
  const lua = readFileSync(file, 'utf8')
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}

/** Runs it by its hash; a Redis that does not know it (new, restarted, SCRIPT FLUSH) gets the text once. */
export async function runScript(
  redis: Redis,
  { lua, sha }: RedisScript,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> {
  try {
    return await redis.evalsha(sha, keys.length, ...keys, ...args)
  } catch (error) {
    if (!(error as Error).message.startsWith('NOSCRIPT')) throw error
    return await redis.eval(lua, keys.length, ...keys, ...args)
  }
}
