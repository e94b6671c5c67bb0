import { Command } from 'commander'
import { whole } from './options.ts'

export function createInitCommand(): Command {
  return new Command('init')
    .description(
      'make what gateway and worker need: the tables in DATABASE_URL, the topics in KAFKA_BROKERS; again does no harm',
    )
    .option(
      '--partitions <count>',
      'partitions of the telemetry topic: as many when it is made, and added to one that has fewer, also under load',
      whole(1, 10_000),
    )
    .option('--json', 'print what was done')
    .addHelpText(
      'after',
      '\nExample:\n  $ KAFKA_BROKERS=localhost:9092 DATABASE_URL=postgres://user:password@localhost/fleet npx fleetbridge init\n  $ npx fleetbridge init --partitions 24',
    )
    .action(async (flags: { json?: true; partitions?: number }) => (await import('./run/init.ts')).init(flags))
}
