import { readFileSync } from 'node:fs'
import { type Check, ok, warn } from './check.ts'

/** Kafka, Postgres, logs, listeners, files of the program. */
const besidesConnections = 500

/** Every connection is an open file. Node raises its soft limit to the hard one at its start, so that is the one that counts. */
export const openFiles: Check = {
  name: 'open files',
  run({ config: { mqtt, http }, instance }) {
    const pid = instance?.pids.fleetbridge
    const whose = pid === undefined ? 'this shell' : `the running instance (process ${pid})`
    const limit = openFileLimit(pid ?? process.pid, pid === undefined ? 'hard' : 'soft')
    if (limit === undefined) return [ok('this system does not tell the limit of a process')]
    const needed = mqtt.maxConnections + http.maxConnections + besidesConnections
    if (limit >= needed) return [ok(`${whose} may open ${limit}; ${needed} are enough for maxConnections`)]
    return [
      warn(
        `${whose} may open ${limit} files, and mqtt.maxConnections (${mqtt.maxConnections}) and http.maxConnections (${http.maxConnections}) need ${needed}`,
        'Past it, connections are refused without a word. Raise it where it is started (systemd: LimitNOFILE, compose: ulimits), or lower BRIDGE_MQTT_MAX_CONNECTIONS and BRIDGE_HTTP_MAX_CONNECTIONS.',
        `ulimit -n ${needed}`,
      ),
    ]
  },
}

function openFileLimit(pid: number, which: 'soft' | 'hard'): number | undefined {
  let limits: string
  try {
    limits = readFileSync(`/proc/${pid}/limits`, 'utf8')
  } catch {
    return undefined // no /proc here, or another user's process
  }
  const [, soft, hard] = /^Max open files +(\S+) +(\S+)/m.exec(limits) ?? []
  const shown = which === 'soft' ? soft : hard
  return shown === 'unlimited' ? Number.POSITIVE_INFINITY : Number(shown)
}
