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
