import { type Check, type Finding, fail, ok, ServerAway, warn } from './check.ts'

const leastMajor = 6
const nearlyFull = 0.8

export const redis: Check = {
  name: 'redis',
  async run(context) {
    const { url } = context.config.redis
    if (url === undefined) return [ok('not used: no REDIS_URL, each gateway counts limits for itself')]
    try {
      const ask = await context.redis()
      return look(parsed(String(await ask('INFO'))))
    } catch (error) {
      if (error instanceof ServerAway) return [fail(error.message, error.advice)]
      return [
        fail(
          `Redis refuses INFO: ${(error as Error).message}`,
          'Give its user the rights that docs/limits.md lists, or mend user and password in REDIS_URL.',
        ),
      ]
    }
  },
}

type Info = ReadonlyMap<string, string>

function parsed(text: string): Info {
  return new Map(
    text.split(/\r?\n/).flatMap((line) => {
      const colon = line.indexOf(':')
      return colon < 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1)] as const]
    }),
  )
}

function look(info: Info): Finding[] {
  const version = info.get('valkey_version') ?? info.get('redis_version') ?? '0'
  const name = info.has('valkey_version') ? 'Valkey' : 'Redis'
  const findings: Finding[] = []
  if (Number.parseInt(version, 10) < leastMajor)
    findings.push(fail(`${name} ${version} is too old: our scripts need Redis ${leastMajor} or newer`))
  if (info.get('role') === 'slave')
    findings.push(
      fail('this is a replica, which takes no writes', 'Let REDIS_URL name the primary, or a name that follows it.'),
    )
  if (info.get('cluster_enabled') === '1')
    findings.push(
      fail(
        'this is a Redis Cluster, which limits do not work with',
        'Use one Redis, or the primary of a replicated one.',
      ),
    )
  findings.push(...memoryOf(info), ...persistenceOf(info))
  const limit = Number(info.get('maxmemory') ?? 0)
  const room = limit === 0 ? 'no maxmemory' : `maxmemory ${mb(limit)}`
  const kept = info.get('aof_enabled') === '1' ? 'append-only file' : 'snapshots at most'
  return [
    ok(
      `${name} ${version}, ${info.get('maxmemory_policy')}, ${room}, ${mb(Number(info.get('used_memory') ?? 0))} used, kept on disk: ${kept}`,
    ),
    ...findings,
  ]
}

/** All our keys expire by themselves, so a policy that keeps to such keys throws out buckets and nothing of others. */
function memoryOf(info: Info): Finding[] {
  const findings: Finding[] = []
  const policy = info.get('maxmemory_policy') ?? ''
  const [limit, used] = [Number(info.get('maxmemory') ?? 0), Number(info.get('used_memory') ?? 0)]
  if (policy.startsWith('allkeys-'))
    findings.push(
      warn(
        `maxmemory-policy ${policy} throws out any key when memory is short, also what keeps sessions`,
        'Choose volatile-ttl, which takes what expires soonest, and write it into redis.conf too:',
        'redis-cli -u "$REDIS_URL" CONFIG SET maxmemory-policy volatile-ttl',
      ),
    )
  if (limit > 0 && used > limit * nearlyFull)
    findings.push(
      (policy === 'noeviction' ? fail : warn)(
        `${mb(used)} of ${mb(limit)} are used; ${policy === 'noeviction' ? 'when full, it refuses writes and gateways count by their share' : 'when full, buckets go, which fills them again'}`,
        'Give it more, or let nobody else use this Redis:',
        `redis-cli -u "$REDIS_URL" CONFIG SET maxmemory ${limit * 2}`,
      ),
    )
  return findings
}

function persistenceOf(info: Info): Finding[] {
  const failed = ['rdb_last_bgsave_status', 'aof_last_bgrewrite_status', 'aof_last_write_status'].filter(
    (name) => info.get(name) === 'err',
  )
  if (failed.length === 0) return []
  return [
    warn(
      `the last write to disk failed (${failed.join(', ')}): by default Redis then takes no more writes`,
      "Look for space and rights in its folder; limits need nothing on disk: save '' turns snapshots off.",
    ),
  ]
}

function mb(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MB`
}
