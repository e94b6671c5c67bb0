import { Command } from 'commander'
import { whole } from './options.ts'

export interface InitFlags {
  readonly requireReplicas?: number
  readonly partitions?: number
  readonly json?: true
}

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
    .option(
      '--partitions <count>',
      'partitions of the telemetry topic: as many when it is made, and added to one that has fewer, also under load',
      whole(1, 10_000),
    )
    .option('--json', 'print what was done')
    .addHelpText(
      'after',
      '\nExamples:\n  $ KAFKA_BROKERS=localhost:9092 DATABASE_URL=postgres://user:password@localhost/fleet npx fleetbridge init\n  $ npx fleetbridge init --require-replicas 3\n  $ npx fleetbridge init --partitions 24',
    )
    .action(async (flags: InitFlags) => (await import('./run/init.ts')).init(flags))
}
