import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { type DeviceEventSink, LimitedDevices } from './limited-devices.ts'
import { limitsByName, payerOf } from './rate-limit/limits.ts'
import type { Cost, LimitName, Wait } from './rate-limit/rate-limiter.ts'

/** What of each limit was asked and let through, and whom it stopped. Plain numbers on the message path; the scrape copies them. */
export interface LimitBooks {
  /** Once for each cost, however often it has to ask again. */
  asked(cost: Cost): void
  passed(cost: Cost): void
  /** A message is stopped: held, or refused at once. @param device whose limit it is, or who sent it */
  limited(tenant: string, device: string, wait: Wait, nowMs: number): void
  /** A message is refused at a limit, also one that was held before. */
  refused(limit: LimitName): void
}

export interface LimitBooksOptions {
  readonly metrics: Metrics
  readonly log: Log
  /** Who hears which devices are limited, beside the log. */
  readonly events?: DeviceEventSink
}

export function createLimitBooks({ metrics, log, events }: LimitBooksOptions): LimitBooks & { close(): void } {
  const numbers = () => new Float64Array(limitsByName.length)
  const [asked, passed, limited, refused] = [numbers(), numbers(), numbers(), numbers()]
  const indexOf = new Map(limitsByName.map(([, limit], index) => [limit as LimitName, index]))
  const register = (name: string, help: string, counts: Float64Array) =>
    metrics.totals(name, help, ['limit'], () =>
      limitsByName.map(([, limit], index) => [{ limit }, counts[index] as number] as const),
    )
  register('fleetbridge_limit_asked_total', 'What came to each limit: messages, readings or bytes', asked)
  register('fleetbridge_limit_passed_total', 'What each limit let through: messages, readings or bytes', passed)
  register('fleetbridge_limit_stopped_messages_total', 'Messages that a limit held or refused, each once', limited)
  register(
    'fleetbridge_limit_refused_messages_total',
    'Messages that a limit refused, at once or after a hold',
    refused,
  )
  const toLog = logSink(log)
  const devices = new LimitedDevices({
    write(limited) {
      toLog.write(limited)
      events?.write(limited)
    },
  })
  metrics.totals(
    'fleetbridge_limited_device_events_total',
    'Times that a device was reported as limited: at most once a minute for each',
    [],
    () => [[{}, devices.reported]],
  )

  function count(counts: Float64Array, cost: Cost): void {
    for (let index = 0; index < limitsByName.length; index++) {
      const [, , owner, quantity] = limitsByName[index] as (typeof limitsByName)[number]
      const amount = cost[quantity] ?? 0
      if (amount > 0 && payerOf(owner, cost) !== undefined) counts[index] = (counts[index] as number) + amount
    }
  }
  function add(counts: Float64Array, limit: LimitName): void {
    const index = indexOf.get(limit) as number
    counts[index] = (counts[index] as number) + 1
  }

  return {
    asked: (cost) => count(asked, cost),
    passed: (cost) => count(passed, cost),
    limited(tenant, device, wait, nowMs) {
      add(limited, wait.limit)
      devices.note(tenant, device, wait, nowMs)
    },
    refused: (limit) => add(refused, limit),
    close: () => devices.close(),
  }
}

/** Devices that one log line names. */
const namedInLine = 20

function logSink(log: Log): DeviceEventSink {
  return {
    write(events) {
      const devices = events.slice(0, namedInLine).map(({ at: _at, type: _type, ...event }) => event)
      const more = events.length - devices.length
      log.warn({ devices, ...(more > 0 && { more }) }, 'devices send more than a limit allows')
    },
  }
}
