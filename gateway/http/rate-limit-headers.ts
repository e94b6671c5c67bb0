import type { LimitLevel, LimitName } from '../rate-limit/rate-limiter.ts'

const noHeaders: Readonly<Record<string, string>> = Object.freeze({})

/**
 * RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-11): each window is a policy with its quota and seconds, then what is
 * left of it and in how many seconds all of it is there again. Bytes have the draft's own word for their unit, the others ours.
 * A backlog's limits are named while one is being sent.
 * @param levels as far as this gateway knows them
 */
export function rateLimitHeaders(levels: readonly LimitLevel[]): Readonly<Record<string, string>> {
  let policies = ''
  let limits = ''
  for (let index = 0; index < levels.length; index++) {
    const { limit, burst, seconds, left, resetMs } = levels[index] as LimitLevel
    if (isCatchUp(limit) && left >= burst) continue
    const several = levels[index - 1]?.limit === limit || levels[index + 1]?.limit === limit
    const name = several ? `"${limit}-${seconds}"` : `"${limit}"`
    const comma = policies === '' ? '' : ', '
    policies += `${comma}${name};q=${burst};qu="${unitOf(limit)}";w=${seconds}`
    limits += `${comma}${name};r=${Math.max(0, Math.floor(left))};t=${Math.max(0, Math.ceil(resetMs / 1000))}`
  }
  return policies === '' ? noHeaders : { 'ratelimit-policy': policies, ratelimit: limits }
}

function isCatchUp(limit: LimitName): boolean {
  return limit.startsWith('catch_up')
}

function unitOf(limit: LimitName): string {
  if (limit.endsWith('_bytes')) return 'content-bytes'
  return limit.endsWith('_readings') ? 'readings' : 'messages'
}
