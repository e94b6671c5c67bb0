import type { LimitName, Wait } from './rate-limit/rate-limiter.ts'

/** Something that happened to a device, for people and programs that watch the fleet. */
export interface LimitedEvent {
  readonly type: 'limited'
  readonly tenant: string
  readonly device: string
  readonly limit: LimitName
  /** Messages that were stopped since the event before: held, or refused. */
  readonly messages: number
  /** The longest that one of them was told to wait. */
  readonly waitMs: number
  /** Date.now() */
  readonly at: number
}

/** Takes events in batches; never throws, never waits. */
export interface DeviceEventSink {
  write(events: readonly LimitedEvent[]): void
}

interface Limited {
  readonly tenant: string
  readonly device: string
  limit: LimitName
  messages: number
  waitMs: number
  /** performance.now() before which nothing more is said of it. */
  quietUntilMs: number
}

const minuteMs = 60_000
const batchMs = 1000
/** Devices that are remembered at once; of more than these nothing is said until some are quiet. */
const maxDevices = 10_000

/** Says of each device at most once a minute that a limit stops it: at once the first time, then what a minute has brought. */
export class LimitedDevices {
  /** Events so far. */
  reported = 0
  readonly #sink: DeviceEventSink
  readonly #quietMs: number
  // A map within a map: one key made of both names would be a new string for every message.
  readonly #tenants = new Map<string, Map<string, Limited>>()
  #size = 0
  #timer: NodeJS.Timeout | undefined

  constructor(sink: DeviceEventSink, quietMs = minuteMs) {
    this.#sink = sink
    this.#quietMs = quietMs
  }

  /** A message of this device is stopped. */
  note(tenant: string, device: string, { limit, ms }: Wait, nowMs: number): void {
    const limited = this.#tenants.get(tenant)?.get(device) ?? this.#remember(tenant, device, limit, nowMs)
    if (limited === undefined) return
    limited.messages++
    if (ms <= limited.waitMs) return
    limited.waitMs = ms
    limited.limit = limit
  }

  /** Says what there is to say now, in one batch, and forgets who has been quiet for a minute. */
  flush(nowMs: number): void {
    const events: LimitedEvent[] = []
    const at = Date.now()
    for (const [tenant, devices] of this.#tenants) {
      for (const [device, limited] of devices) {
        if (limited.quietUntilMs > nowMs) continue
        if (limited.messages === 0) {
          devices.delete(device)
          this.#size--
          continue
        }
        const { limit, messages, waitMs } = limited
        events.push({ type: 'limited', tenant, device, limit, messages, waitMs, at })
        limited.messages = 0
        limited.waitMs = 0
        limited.quietUntilMs = nowMs + this.#quietMs
      }
      if (devices.size === 0) this.#tenants.delete(tenant)
    }
    this.reported += events.length
    if (events.length > 0) this.#sink.write(events)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #remember(tenant: string, device: string, limit: LimitName, nowMs: number): Limited | undefined {
    if (this.#size >= maxDevices) return undefined
    this.#timer ??= setInterval(() => this.flush(performance.now()), batchMs).unref()
    const limited = { tenant, device, limit, messages: 0, waitMs: 0, quietUntilMs: nowMs }
    let devices = this.#tenants.get(tenant)
    if (devices === undefined) {
      devices = new Map()
      this.#tenants.set(tenant, devices)
    }
    devices.set(device, limited)
    this.#size++
    return limited
  }
}
