import { freePort } from './free-port.ts'
import { type KafkaServer, newClusterId, startKafka } from './kafka.ts'

export interface KafkaCluster extends AsyncDisposable {
  /** host:port,host:port,host:port */
  readonly brokers: string
  readonly nodes: readonly KafkaServer[]
}

/** Three nodes, each broker and controller: what an acknowledgement by two of them needs. About 10 s to start. */
export async function startKafkaCluster(): Promise<KafkaCluster> {
  const clusterId = newClusterId()
  const controllerPorts = [await freePort(), await freePort(), await freePort()]
  const voters = controllerPorts.map((port, index) => `${index + 1}@127.0.0.1:${port}`).join(',')
  // At once: none serves before it has found another.
  const outcomes = await Promise.allSettled(
    controllerPorts.map((controllerPort, index) =>
      startKafka({ node: { id: index + 1, clusterId, controllerPort, voters, nodes: controllerPorts.length } }),
    ),
  )
  const nodes = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  const close = async () => {
    await Promise.all(nodes.map((node) => node.close()))
  }
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) {
    await close()
    throw failed.reason
  }
  return { brokers: nodes.map(({ brokers }) => brokers).join(','), nodes, [Symbol.asyncDispose]: close }
}
