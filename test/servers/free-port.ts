import { randomInt } from 'node:crypto'
import { isFree } from '#platform/free-port.ts'

// Below what systems deal out to outgoing connections (Linux from 32768, others from 49152): a port that is only looked up there may
// be some connection's before the server that it is for has started.
const firstPort = 10_000
const lastPort = 32_000
const slices = 10
const width = (lastPort - firstPort) / slices

/** Test files run side by side, each in a worker with a number of its own: they never choose the same port. */
const slice = Number(process.env.VITEST_POOL_ID ?? 0) % slices
let next = randomInt(width)

/** A port that nobody listens on; the same process is not given it again. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  for (let tried = 0; tried < width; tried++) {
    const port = firstPort + slice * width + (next++ % width)
    if (await isFree(port, host)) return port
  }
  throw new Error(`no port of ${firstPort} to ${lastPort} is free on ${host}`)
}
