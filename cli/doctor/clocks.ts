import { type Check, type DoctorContext, type Finding, fail, ok, ServerAway, warn } from './check.ts'

const warnMs = 1000
const failMs = 60_000

/** The clock of this machine, where gateways are, against those of the servers. */
export const clocks: Check = {
  name: 'clocks',
  async run(context) {
    const asked: Promise<Finding>[] = []
    if (context.database !== undefined) asked.push(compared(context, 'Postgres', () => postgresClock(context)))
    if (context.config.redis.url !== undefined) asked.push(compared(context, 'Redis', () => redisClock(context)))
    return asked.length === 0 ? [ok('no server to compare with')] : Promise.all(asked)
  },
}

async function postgresClock({ postgres }: DoctorContext): Promise<number> {
  const pool = await postgres()
  const { rows } = await pool.query<{ ms: number }>(
    'select (extract(epoch from clock_timestamp()) * 1000)::double precision as ms',
  )
  return rows[0]?.ms as number
}

async function redisClock({ redis }: DoctorContext): Promise<number> {
  const [seconds, microseconds] = (await (await redis())('TIME')) as [string, string]
  return Number(seconds) * 1000 + Number(microseconds) / 1000
}

async function compared(
  context: DoctorContext,
  name: ServerAway['server'],
  read: () => Promise<number>,
): Promise<Finding> {
  try {
    await read() // the second one finds an open connection
    const before = context.now()
    const theirs = await read()
    const after = context.now()
    // The answer was made somewhere between asking and hearing.
    const aheadMs = theirs < before ? theirs - before : theirs > after ? theirs - after : 0
    const off = Math.abs(aheadMs)
    if (off < warnMs)
      return ok(`${name} agrees with this machine within ${Math.max(1, Math.round(off + after - before))} ms`)
    const seen = `${name}'s clock is ${(off / 1000).toFixed(1)} s ${aheadMs > 0 ? 'ahead of' : 'behind'} this machine's`
    const advice =
      name === 'Redis'
        ? 'Redis counts limits by its own clock; waits that devices are told come out wrong by that much. Let NTP set both.'
        : 'Readings without a time of their own carry the time of this machine, and partitions follow it. Let NTP set both.'
    return (off < failMs ? warn : fail)(seen, advice, 'timedatectl show --property=NTPSynchronized')
  } catch (error) {
    if (error instanceof ServerAway) return warn(`not compared with ${name}, which does not answer`, error.advice)
    throw error
  }
}
