import { Command } from 'commander'
import { whole } from './options.ts'

export function createInitCommand(): Command {
  return new Command('init')
    .description(
      'make what gateway and worker need: the tables in DATABASE_URL, the topics in KAFKA_BROKERS; again does no harm',
    )
    .option(
      '--require-replicas <n>',
      'make no topic with fewer copies in Kafka, nor, from 2 on, one where a single copy is acknowledged',
      whole(1, 100),
    )
    .option('--json', 'print what was done')
    .addHelpText(
      'after',
      '\nExamples:\n  $ KAFKA_BROKERS=localhost:9092 DATABASE_URL=postgres://user:password@localhost/fleet npx fleetbridge init\n  $ npx fleetbridge init --require-replicas 3',
    )
    .action(async (flags: { requireReplicas?: number; json?: true }) => (await import('./run/init.ts')).init(flags))
}
