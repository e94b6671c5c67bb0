/** A metric as a birth names it. */
export interface BornMetric {
  readonly name: string
  /** Sparkplug's number of the type; 0 when the birth told none. */
  readonly datatype: number
  readonly alias: AliasKey | undefined
}

/** An alias is a uint64: a number where a double holds it, else its digits. */
export type AliasKey = number | string

/** Whose births they are: two credentials that speak of the same node know nothing of each other, so nobody tells lies about another's metrics. */
export interface NodeAddress {
  readonly tenant: string
  /** The credential's own device. */
  readonly sender: string
  /** `GROUP/NODE` */
  readonly node: string
}

export interface EdgeNodeBounds {
  /** Over all senders. */
  readonly maxNodes: number
  readonly maxBytes: number
  /** Of one sender, so that none of them pushes the others' births out. */
  readonly maxNodesOfSender: number
  readonly maxBytesOfSender: number
  /** Of one node, its devices among them; what a birth names beyond is not remembered. */
  readonly maxMetrics: number
}

const defaultBounds: EdgeNodeBounds = {
  maxNodes: 20_000,
  maxBytes: 64 * 1024 * 1024,
  maxNodesOfSender: 4000,
  maxBytesOfSender: 16 * 1024 * 1024,
  maxMetrics: 20_000,
}

/** What a node, a device and a metric cost beside their names, roughly. */
const nodeBytes = 512
const deviceBytes = 256
const metricBytes = 200
/** A longer one cannot be the name of a reading. */
const maxNameLength = 256

/** A node is asked at once, then ever more rarely, since some never tell their birth; after a birth not sooner than this again. */
const firstPauseMs = 5000
const longestPauseMs = 300_000

/**
 * What the births of Sparkplug's edge nodes have told: aliases and types of their metrics. In this process alone: a node that comes by another
 * gateway is asked for its birth there. The nodes that were not heard of for the longest are forgotten first.
 */
export class EdgeNodes {
  readonly #bounds: EdgeNodeBounds
  readonly #senders = new Map<string, Sender>()
  #count = 0
  #bytes = 0

  constructor(bounds: Partial<EdgeNodeBounds> = {}) {
    this.#bounds = { ...defaultBounds, ...bounds }
  }

  get count(): number {
    return this.#count
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Whether the node has told its birth. */
  isBorn(address: NodeAddress): boolean {
    return this.#find(address)?.born === true
  }

  byAlias(address: NodeAddress, alias: AliasKey): BornMetric | undefined {
    return this.#find(address)?.byAlias.get(alias)
  }

  /** @param device '' for the node itself */
  datatypeOf(address: NodeAddress, device: string, name: string): number {
    return this.#find(address)?.births.get(device)?.datatypes.get(name) ?? 0
  }

  /** The birth of the node itself ends all that was known of it and its devices; that of a device what was known of that device. */
  bear(address: NodeAddress, device: string, metrics: readonly BornMetric[]): void {
    const sender = this.#senderOf(address)
    const node = this.#nodeOf(sender, address.node)
    if (device === '') {
      this.#empty(sender, node)
      node.born = true
      node.pauseMs = firstPauseMs
    } else this.#forgetDevice(sender, node, device)
    const birth: Birth = { metrics: [], datatypes: new Map() }
    node.births.set(device, birth)
    let bytes = bytesOfDevice(device)
    for (const metric of metrics) {
      if (node.metrics >= this.#bounds.maxMetrics) break
      if (metric.name.length > maxNameLength) continue
      node.metrics++
      birth.metrics.push(metric)
      birth.datatypes.set(metric.name, metric.datatype)
      if (metric.alias !== undefined) node.byAlias.set(metric.alias, metric)
      bytes += bytesOfMetric(metric)
    }
    this.#charge(sender, node, bytes)
    this.#makeRoom(sender)
  }

  /**
   * Whether a node should be asked for its birth now; that it was is remembered.
   * @param nowMs of a clock that never goes back
   */
  mayAsk(address: NodeAddress, nowMs: number): boolean {
    const sender = this.#senderOf(address)
    const node = this.#nodeOf(sender, address.node)
    if (nowMs < node.askedMs + node.pauseMs) return false
    if (node.askedMs !== never) node.pauseMs = Math.min(2 * node.pauseMs, longestPauseMs)
    node.askedMs = nowMs
    this.#makeRoom(sender)
    return true
  }

  #find({ tenant, sender: name, node: nodeName }: NodeAddress): EdgeNode | undefined {
    const sender = this.#senders.get(senderKey(tenant, name))
    const node = sender?.nodes.get(nodeName)
    if (sender !== undefined && node !== undefined) touch(sender, node)
    return node
  }

  #senderOf({ tenant, sender: name }: NodeAddress): Sender {
    const key = senderKey(tenant, name)
    let sender = this.#senders.get(key)
    if (sender === undefined) {
      sender = { key, nodes: new Map(), bytes: 0 }
      this.#senders.set(key, sender)
    }
    return sender
  }

  #nodeOf(sender: Sender, name: string): EdgeNode {
    let node = sender.nodes.get(name)
    if (node === undefined) {
      const state = { born: false, metrics: 0, bytes: 0, askedMs: never, pauseMs: firstPauseMs }
      node = { name, byAlias: new Map(), births: new Map(), ...state }
      this.#count++
      this.#charge(sender, node, bytesOfNode(node))
    }
    touch(sender, node)
    return node
  }

  #charge(sender: Sender, node: EdgeNode, bytes: number): void {
    node.bytes += bytes
    sender.bytes += bytes
    this.#bytes += bytes
  }

  #empty(sender: Sender, node: EdgeNode): void {
    node.byAlias.clear()
    node.births.clear()
    node.metrics = 0
    this.#charge(sender, node, bytesOfNode(node) - node.bytes)
  }

  #forgetDevice(sender: Sender, node: EdgeNode, device: string): void {
    const birth = node.births.get(device)
    if (birth === undefined) return
    node.births.delete(device)
    let bytes = bytesOfDevice(device)
    for (const metric of birth.metrics) {
      bytes += bytesOfMetric(metric)
      // Unless another birth has taken the number meanwhile.
      if (metric.alias !== undefined && node.byAlias.get(metric.alias) === metric) node.byAlias.delete(metric.alias)
    }
    node.metrics -= birth.metrics.length
    this.#charge(sender, node, -bytes)
  }

  #makeRoom(sender: Sender): void {
    const { maxNodes, maxBytes, maxNodesOfSender, maxBytesOfSender } = this.#bounds
    while (sender.nodes.size > maxNodesOfSender || sender.bytes > maxBytesOfSender) this.#forgetFirst(sender)
    // Who holds the most pays. A look at all senders, but only for a birth that comes when everything is full.
    while (this.#count > maxNodes || this.#bytes > maxBytes) {
      let largest = sender
      for (const other of this.#senders.values()) if (other.bytes > largest.bytes) largest = other
      this.#forgetFirst(largest)
    }
  }

  #forgetFirst(sender: Sender): void {
    for (const node of sender.nodes.values()) {
      sender.nodes.delete(node.name)
      this.#count--
      this.#charge(sender, node, -node.bytes)
      break
    }
    if (sender.nodes.size === 0) this.#senders.delete(sender.key)
  }
}

interface Sender {
  readonly key: string
  /** The latest used last. */
  readonly nodes: Map<string, EdgeNode>
  bytes: number
}

interface EdgeNode {
  readonly name: string
  readonly byAlias: Map<AliasKey, BornMetric>
  /** By the device's name, '' for the node itself. */
  readonly births: Map<string, Birth>
  /** Its own birth is known, not only one of a device. */
  born: boolean
  metrics: number
  bytes: number
  askedMs: number
  pauseMs: number
}

interface Birth {
  readonly metrics: BornMetric[]
  readonly datatypes: Map<string, number>
}

const never = Number.NEGATIVE_INFINITY

function bytesOfNode({ name }: EdgeNode): number {
  return nodeBytes + 2 * name.length
}

function bytesOfDevice(device: string): number {
  return deviceBytes + 2 * device.length
}

function bytesOfMetric({ name }: BornMetric): number {
  return metricBytes + 2 * name.length
}

function senderKey(tenant: string, sender: string): string {
  return `${tenant}/${sender}`
}

function touch({ nodes }: Sender, node: EdgeNode): void {
  nodes.delete(node.name)
  nodes.set(node.name, node)
}
