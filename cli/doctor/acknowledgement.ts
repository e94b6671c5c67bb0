import { checkTopics } from '#platform/kafka-topics-admin.ts'
import { createLog } from '#platform/log.ts'
import { type Check, type Finding, ok, warn } from './check.ts'

/** What a PUBACK or 202 is worth here. */
export const acknowledgement: Check = {
  name: 'an ack',
  async run({ config, kafka, database, postgres }): Promise<Finding[]> {
    if (config.kafka.brokers === undefined) {
      if (database === undefined) return [ok('committed: the rows are committed in Postgres')]
      const { rows } = await (await postgres()).query<{ fsync: string }>("select current_setting('fsync') as fsync")
      if (rows[0]?.fsync === 'on') return [ok('committed: the rows are committed in Postgres')]
      return [warn('less than committed: Postgres runs with fsync off, and a power cut takes what was acknowledged')]
    }
    await kafka() // a Kafka that is away is told once, by its own check
    const { ackLevel } = await checkTopics(config.kafka, createLog('fleetbridge', 'silent'))
    if (ackLevel === 'replicated') return [ok('replicated: two Kafka brokers at least have it')]
    return [
      warn(
        'single-copy: one Kafka broker has it, which survives a crash of the broker, not a power cut or a lost disk',
        'With three brokers, init makes topics of three copies and refuses to do with less:',
        'npx fleetbridge init --require-replicas 3',
      ),
    ]
  },
}
