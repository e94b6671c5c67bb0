import type { Counter } from 'prom-client'
import type { ClientAddresses } from '#platform/client-addresses.ts'
import type { Config } from '#platform/config-schema.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import type { TlsCertificates } from '#platform/tls-certificates.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import { LoginGuard } from '../auth/login-guard.ts'
import type { Principal } from '../auth/principal.ts'
import type { CertificateReader } from '../auth/shown-certificate.ts'
import { Doorkeeper } from '../doorkeeper.ts'
import type { Pipeline } from '../pipeline-port.ts'
import type { Presence } from '../presence/presence.ts'
import { type CloseReason, closeReasons } from './answers.ts'
import type { Broker } from './broker.ts'
import type { BrokerMessage } from './broker-message.ts'
import { Clients } from './client.ts'
import { Cluster } from './cluster/cluster.ts'
import { type ConnectResult, connectResults } from './connect.ts'
import { type DeliveryDropReason, deliveryDropReasons } from './deliveries.ts'
import { ErrorsTopic } from './errors-topic.ts'
import { OpenMode, openAuthenticator } from './open-mode.ts'
import type { Peer } from './peer.ts'
import { PublishPacket } from './publish-packet.ts'
import { RetainedMessages } from './retained.ts'
import { SysTopics } from './sys-topics.ts'
import { Watchers } from './watchers.ts'
import { DelayedWills } from './will.ts'

export interface MqttSourceOptions {
  readonly pipeline: Pipeline
  readonly authenticator: Authenticator
  readonly log: Log
  readonly metrics: Metrics
  /** Counts a message that was refused before the pipeline saw it. */
  readonly countRefused?: (reason: ReasonCode) => void
  /** Shared with HTTP; absent: failed logins are not slowed. */
  readonly loginGuard?: LoginGuard
  /** Absent: no listener with TLS. */
  readonly tls?: TlsCertificates | undefined
  readonly addresses?: ClientAddresses
  /** Absent: client certificates say nothing. */
  readonly clientCertificateOf?: CertificateReader
  /** What gateways share their sessions and messages by; absent: there are no others. */
  readonly redis?: { readonly url: string; readonly answerMs?: number } | undefined
  /** Who hears of connections and their ends; absent: nobody. */
  readonly presence?: Presence | undefined
}

/** A connection that was let in. */
export interface Guest {
  readonly principal: Principal | undefined
  /** It may not stay any longer. */
  revoke(): void
  fail(error: unknown): void
}

/** A connection with answers to write. */
export interface Flushable {
  flush(): void
  /** Ends it for a fault of ours. */
  fail(error: unknown): void
}

export interface FrontCounters {
  readonly connects: Counter<'result'>
  readonly closed: Counter<'reason'>
  readonly dupJoined: Counter
  readonly qos0Dropped: Counter<'reason'>
  readonly deliveriesDropped: Counter<'reason'>
}

/** What all connections share. */
export class Front {
  readonly config: Config['mqtt']
  readonly pipeline: Pipeline
  readonly authenticator: Authenticator
  readonly loginGuard: LoginGuard
  readonly door: Doorkeeper
  readonly guests = new Set<Guest>()
  readonly log: Log
  readonly broker: Broker
  readonly clients: Clients
  readonly errors: ErrorsTopic
  readonly watchers = new Watchers()
  readonly wills = new DelayedWills()
  readonly sys: SysTopics
  readonly retained: RetainedMessages
  /** What is shared with other gateways; undefined when there is no Redis. */
  readonly cluster: Cluster | undefined
  /** Set while everybody is let in. */
  readonly open: OpenMode | undefined
  readonly presence: Presence | undefined
  readonly counters: FrontCounters
  readonly countRefused: (reason: ReasonCode) => void
  /** The PUBLISH that is being read: packets are read one at a time, so one object does for all. */
  readonly publish = new PublishPacket()
  isClosing = false
  readonly #stopListening: () => void
  #dirty: Flushable[] = []
  readonly #flushAll = () => this.#flush()

  constructor(config: Config['mqtt'], broker: Broker, options: MqttSourceOptions) {
    this.config = config
    this.broker = broker
    this.pipeline = options.pipeline
    this.open = config.open ? new OpenMode(config.openDeny) : undefined
    this.authenticator = config.open ? openAuthenticator(options.authenticator) : options.authenticator
    this.loginGuard = options.loginGuard ?? new LoginGuard('none')
    this.door = new Doorkeeper(config)
    this.log = options.log
    this.presence = options.presence
    this.countRefused = options.countRefused ?? (() => {})
    this.clients = new Clients((client) => {
      broker.forget(client.id)
      this.cluster?.sessions.forget(client)
      this.wills.sayNow(client)
    })
    const publish = (topic: string, payload: Buffer) => broker.publish(topic, payload)
    this.errors = new ErrorsTopic(publish, this.watchers)
    this.retained = new RetainedMessages(config.maxRetainedBytes)
    const retainedCount = (tenant: string) => this.retained.countOf(tenant)
    this.sys = new SysTopics({ watchers: this.watchers, publish, retainedCount })
    this.counters = registerCounters(options.metrics)
    const { redis, log, metrics } = options
    this.cluster =
      redis === undefined
        ? undefined
        : new Cluster(this, {
            redisUrl: redis.url,
            log,
            metrics,
            ...(redis.answerMs !== undefined && { answerMs: redis.answerMs }),
          })
    this.errors.elsewhere = this.cluster?.errors
    this.#stopListening = this.authenticator.onChange(() => this.#turnOut())
  }

  /**
   * Hands a message that is no telemetry to all who have subscribed, on every gateway.
   * @param from inside id of the client that it comes from
   * @param owner inside name of the device that it comes from
   * @param done called when it was handed on
   */
  send(message: BrokerMessage, from: string, owner: string, done: (error?: Error) => void): void {
    if (this.cluster === undefined) this.broker.send(message, from, done)
    else this.cluster.send(message, from, owner, done)
  }

  /** Hears of no revocation any more. */
  close(): void {
    this.#stopListening()
  }

  /** Verdicts come in groups: when the group is over, each connection writes its answers at once. */
  flushLater(connection: Flushable): void {
    if (this.#dirty.push(connection) === 1) process.nextTick(this.#flushAll)
  }

  /** Whether a new connection may stay; then `door.leave` has to be called at its end. */
  admits({ address }: Peer): boolean {
    const refusal = this.isClosing ? 'too_many_connections' : this.door.admit(address, performance.now())
    if (refusal !== undefined) this.countConnect(refusal)
    return refusal === undefined
  }

  countConnect(result: ConnectResult): void {
    this.counters.connects.inc({ result })
  }

  countClosed(reason: CloseReason): void {
    this.counters.closed.inc({ reason })
  }

  /** Ends the connections of those who may not stay. A walk over all of them, since revoking is rare and asking at every message is not. */
  #turnOut(): void {
    for (const guest of this.guests) {
      try {
        if (guest.principal !== undefined && !this.authenticator.isLive(guest.principal)) guest.revoke()
      } catch (error) {
        guest.fail(error)
      }
    }
  }

  #flush(): void {
    const connections = this.#dirty
    this.#dirty = []
    for (const connection of connections) {
      try {
        connection.flush()
      } catch (error) {
        connection.fail(error)
      }
    }
  }
}

const dropReasons = ['queue_full', 'rate_limited', 'not_allowed', 'event_log_unavailable', 'shutting_down'] as const

function registerCounters(metrics: Metrics): FrontCounters {
  return {
    connects: metrics.counter(
      'fleetbridge_mqtt_connects_total',
      'CONNECTs by what became of them',
      ['result'],
      connectResults.map((result) => ({ result })),
    ),
    closed: metrics.counter(
      'fleetbridge_mqtt_closed_total',
      'Connections that ended, by why',
      ['reason'],
      closeReasons.map((reason) => ({ reason })),
    ),
    dupJoined: metrics.counter(
      'fleetbridge_mqtt_dup_joined_total',
      'Re-sent PUBLISHes that shared the answer of their first copy',
    ),
    qos0Dropped: metrics.counter(
      'fleetbridge_mqtt_qos0_dropped_total',
      'QoS 0 messages that were not taken',
      ['reason'],
      dropReasons.map((reason) => ({ reason })),
    ),
    deliveriesDropped: metrics.counter<'reason'>(
      'fleetbridge_mqtt_deliveries_dropped_total',
      'Messages that a subscriber did not get',
      ['reason'],
      deliveryDropReasons.map((reason: DeliveryDropReason) => ({ reason })),
    ),
  }
}
