import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import { parseDurationMs } from '../duration.ts'
import type { Scenario, TransportName } from '../scenario/scenario.ts'
import { Connection, type ConnectionHost } from './connection.ts'
import { DueHeap } from './due-heap.ts'
import type { Histogram } from './histogram.ts'
import { HttpWire } from './http-wire.ts'
import { JournalFile } from './journal-file.ts'
import type { Answer, Message } from './message.ts'
import { MqttWire } from './mqtt-wire.ts'
import { type Second, Stats } from './series.ts'
import { GroupPlan, SimulatedDevice } from './simulated-device.ts'
import type { Wire, WireEvents } from './wire.ts'

/** A device of the scenario and what it signs in with. */
export interface FleetLogin {
  readonly group: string
  readonly id: string
  readonly token: string
}

/** Where each way leads; a scenario needs those of its transports. */
export interface Places {
  readonly mqtt?: string | undefined
  readonly mqtts?: string | undefined
  readonly ws?: string | undefined
  readonly wss?: string | undefined
  readonly http?: string | undefined
  readonly https?: string | undefined
}

export interface FleetOptions {
  readonly scenario: Scenario
  readonly seed: number
  readonly run: string
  readonly tenant: string
  readonly logins: readonly FleetLogin[]
  /** Index of the first login in the whole fleet, where several processes share it: devices are the same however they are shared out. */
  readonly firstIndex: number
  readonly places: Places
  /** Authority of the gateway's certificate. */
  readonly ca?: Buffer | undefined
  readonly durationMs: number
  /** How long answers are awaited, and backlogs sent, once the last message was due. */
  readonly drainMs: number
  readonly journalPath: string
  readonly startedUs: number
  readonly onSecond?: (second: Second, recent: Histogram, stats: Stats) => void
  readonly signal: AbortSignal
}

export interface FleetResult {
  readonly stats: Stats
  readonly seconds: readonly Second[]
  /** Messages that were due and have no answer in the end. */
  readonly waiting: number
  readonly sendingMs: number
  readonly cpuUs: number
  readonly memoryBytes: number
}

const tickMs = 2

/** Lets a fleet live for a time: every message is due at its time whatever the answers do, and stands in the journal before it is sent. */
export async function runFleet(options: FleetOptions): Promise<FleetResult> {
  const fleet = new Fleet(options)
  try {
    return await fleet.run()
  } finally {
    await fleet.close()
  }
}

class Fleet implements ConnectionHost {
  readonly #options: FleetOptions
  readonly #stats = new Stats()
  readonly #journal: JournalFile
  readonly #devices: SimulatedDevice[]
  readonly #connections: Connection[]
  readonly #pools = new Map<string, Pool>()
  readonly #woken = new Set<Connection>()
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #seconds: Second[] = []
  #flushing = false
  #connected = 0
  #keptBack = 0
  #startMs = 0
  stopping = false

  constructor(options: FleetOptions) {
    this.#options = options
    const plans = new Map(options.scenario.groups.map((group) => [group.name, new GroupPlan(group)]))
    this.#devices = options.logins.map(
      ({ group, id, token }, index) =>
        new SimulatedDevice({
          index: options.firstIndex + index,
          id,
          token,
          plan: plans.get(group) as GroupPlan,
          seed: options.seed,
          run: options.run,
        }),
    )
    this.#journal = new JournalFile(
      options.journalPath,
      {
        journal: 1,
        run: options.run,
        scenario: options.scenario.name,
        seed: options.seed,
        tenant: options.tenant,
        startedUs: options.startedUs,
      },
      this.#devices.map(({ index, id, plan }) => ({ device: index, id, metrics: plan.storedMetrics })),
    )
    this.#connections = this.#devices.map(
      (device) => new Connection(device, this, (connection) => this.#wireOf(connection)),
    )
  }

  async run(): Promise<FleetResult> {
    const { scenario, durationMs, signal, drainMs, onSecond } = this.#options
    const cpu = process.cpuUsage()
    // From the common start, where several processes share a fleet.
    this.#startMs = performance.now() - Math.max(0, Date.now() - this.#options.startedUs / 1000)
    const rampMs = Math.min(parseDurationMs(scenario.ramp) ?? 0, durationMs / 2)
    const due = new DueHeap()
    this.#connections.forEach((connection, index) => {
      const enterMs = (rampMs * index) / this.#connections.length
      this.#after(enterMs, () => connection.enter())
      due.push(enterMs + connection.device.phase * connection.device.plan.everyMs, index)
      this.#planAbsence(connection, enterMs)
    })
    for (const storm of scenario.storms)
      this.#after(parseDurationMs(storm.at) as number, () => this.#storm(storm.share))
    const everySecond = setInterval(() => {
      const { second, recent } = this.#stats.takeSecond(Math.round(this.#sinceStartMs() / 1000), this.#now())
      this.#seconds.push(second)
      onSecond?.(second, recent, this.#stats)
    }, 1000)
    try {
      while (this.#sinceStartMs() < durationMs && !signal.aborted) {
        this.#makeDue(due, Math.min(this.#sinceStartMs(), durationMs))
        await sleep(tickMs)
      }
      const sendingMs = this.#sinceStartMs()
      await this.#drain(signal.aborted ? Math.min(3000, drainMs) : drainMs)
      const { user, system } = process.cpuUsage(cpu)
      return {
        stats: this.#stats,
        seconds: this.#seconds,
        waiting: this.#now().waiting,
        sendingMs,
        cpuUs: user + system,
        memoryBytes: process.memoryUsage.rss(),
      }
    } finally {
      clearInterval(everySecond)
    }
  }

  async close(): Promise<void> {
    this.stopping = true
    for (const timer of this.#timers) clearTimeout(timer)
    await Promise.all(this.#connections.map((connection) => connection.leave()))
    await Promise.all([...this.#pools.values()].map((pool) => pool.destroy()))
    this.#journal.close()
  }

  /** Everybody is there again, and what has gathered goes out. */
  async #drain(drainMs: number): Promise<void> {
    for (const connection of this.#connections) connection.enter()
    const end = performance.now() + drainMs
    while ((this.#keptBack > 0 || this.#connections.some(({ queued }) => queued > 0)) && performance.now() < end)
      await sleep(20)
  }

  #makeDue(due: DueHeap, nowMs: number): void {
    while (due.next <= nowMs) {
      const dueMs = due.next
      const index = due.pop()
      const connection = this.#connections[index] as Connection
      const { device } = connection
      const { group, everyMs, lateMs } = device.plan
      due.push(dueMs + everyMs, index)
      this.#stats.pace.record((nowMs - dueMs) * 1000)
      this.#stats.counts.due++
      const message = device.next(Math.round(this.#options.startedUs + dueMs * 1000), dueMs)
      if (group.late > 0 && device.random() < group.late) this.#keepBack(connection, message, device.random() * lateMs)
      else connection.enqueue(message)
    }
  }

  #keepBack(connection: Connection, message: Message, ms: number): void {
    this.#keptBack++
    message.delayed = true
    this.#after(ms, () => {
      this.#keptBack--
      connection.enqueue(message)
    })
  }

  #planAbsence(connection: Connection, fromMs: number): void {
    const { offline } = connection.device.plan.group
    if (offline === undefined) return
    const meanMs = parseDurationMs(offline.every) as number
    const awayMs = parseDurationMs(offline.for) as number
    const atMs = fromMs - Math.log(1 - connection.device.random() * 0.999) * meanMs
    if (atMs > this.#options.durationMs) return
    this.#after(atMs - this.#sinceStartMs(), () => {
      void connection.leave()
      this.#after(awayMs, () => connection.enter())
      this.#planAbsence(connection, atMs + awayMs)
    })
  }

  #storm(share: number): void {
    for (const connection of this.#connections) if (Math.random() < share) connection.cut()
  }

  #after(ms: number, then: () => void): void {
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer)
        if (!this.stopping) then()
      },
      Math.max(0, ms),
    )
    this.#timers.add(timer)
  }

  wake(connection: Connection): void {
    this.#woken.add(connection)
    if (this.#flushing) return
    this.#flushing = true
    setImmediate(() => this.#flush())
  }

  /** Journal first, then the network: one write for all that goes out together. */
  #flush(): void {
    this.#flushing = false
    const outgoing: [Connection, readonly Message[]][] = []
    for (const connection of this.#woken) {
      const messages = connection.take()
      if (messages.length === 0) continue
      outgoing.push([connection, messages])
      for (const message of messages) {
        this.#journal.sending(message, message.values === undefined ? sha256(message.payload) : '')
        if (message.sends === 0) this.#stats.counts.sent++
        else this.#stats.counts.resent++
      }
    }
    this.#woken.clear()
    this.#journal.flush()
    for (const [connection, messages] of outgoing) connection.send(messages)
  }

  answered(message: Message, answer: Answer): void {
    if (answer.kind === 'again') this.#stats.error(answer.code)
    else if (answer.kind === 'refused') {
      this.#stats.error(answer.code)
      this.#journal.refused(message, answer.code)
    } else if (answer.kind === 'parked') this.#journal.parked(message)
    else if (message.qos > 0 || this.#isHttp(message)) this.#journal.accepted(message)
    if (!this.#flushing) {
      this.#flushing = true
      setImmediate(() => this.#flush())
    }
  }

  settled(message: Message, answer: Answer): void {
    const { counts } = this.#stats
    if (answer.kind === 'refused') counts.refused++
    else if (answer.kind === 'parked') counts.parked++
    else if (message.qos === 0 && !this.#isHttp(message)) counts.unanswered++
    else this.#stats.accepted(message.delayed ? undefined : this.#nowUs() - message.dueUs)
  }

  opened(): void {
    this.#connected++
  }

  closed(): void {
    this.#connected--
  }

  failed(reason: string): void {
    this.#stats.counts.reconnects++
    this.#stats.error(reason)
  }

  #isHttp({ device }: Message): boolean {
    return (this.#devices[device - this.#options.firstIndex] as SimulatedDevice).plan.group.transport.startsWith('http')
  }

  #wireOf(connection: Connection): Wire {
    const { transport } = connection.device.plan.group
    let wire: Wire
    const events: WireEvents = connection.eventsOf(() => wire)
    wire = transport.startsWith('http')
      ? this.#httpWire(transport, connection, events)
      : this.#mqttWire(transport, connection, events)
    return wire
  }

  #mqttWire(transport: TransportName, { device }: Connection, events: WireEvents): Wire {
    const way = transport.replace('5', '') as 'mqtt' | 'mqtts' | 'ws' | 'wss'
    const place = {
      url: this.#options.places[way] as string,
      protocolVersion: transport.endsWith('5') ? 5 : 4,
      ca: this.#options.ca,
    } as const
    return new MqttWire(place, device, events)
  }

  #httpWire(transport: TransportName, { device }: Connection, events: WireEvents): Wire {
    const origin = this.#options.places[transport as 'http' | 'https'] as string
    let pool = this.#pools.get(origin)
    if (pool === undefined) {
      pool = new Pool(origin, { connections: 64, connect: { ca: this.#options.ca?.toString() } })
      this.#pools.set(origin, pool)
    }
    return new HttpWire(pool, device, events)
  }

  #now(): { connected: number; inFlight: number; waiting: number } {
    let inFlight = 0
    let waiting = this.#keptBack
    for (const connection of this.#connections) {
      inFlight += connection.inFlight
      waiting += connection.queued
    }
    return { connected: this.#connected, inFlight, waiting }
  }

  #sinceStartMs(): number {
    return performance.now() - this.#startMs
  }

  /** The run's clock: the wall clock at its start, then a monotonic one. */
  #nowUs(): number {
    return this.#options.startedUs + this.#sinceStartMs() * 1000
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
