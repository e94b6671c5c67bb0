/** Names of the Kafka topics under a prefix (default `fleetbridge`). The version is part of the name: a new shape is a new topic. */
export interface KafkaTopics {
  readonly telemetry: string
  readonly deadLetter: string
  readonly deviceEvent: string
}

export function kafkaTopics(prefix: string): KafkaTopics {
  return {
    telemetry: `${prefix}.telemetry.v1`,
    deadLetter: `${prefix}.dead-letter.v1`,
    deviceEvent: `${prefix}.device-event.v1`,
  }
}

/** Key of every record: records of one device keep their order. Tenants hold no `/`, so the first one splits it. */
export function recordKey(tenant: string, device: string): string {
  return `${tenant}/${device}`
}

/** The consumer group of the workers. Members of one group must read the same topics: its leader gives out those that it reads itself. */
export function workerGroup({ group, topicPrefix }: { readonly group?: string; readonly topicPrefix: string }): string {
  return group ?? `${topicPrefix}-worker`
}
