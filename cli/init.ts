import { Command } from 'commander'

export function createInitCommand(): Command {
  return new Command('init')
    .description(
      'make what gateway and worker need: the tables in DATABASE_URL, the topics in KAFKA_BROKERS; again does no harm',
    )
    .option('--json', 'print what was done')
    .addHelpText(
      'after',
      '\nExample:\n  $ KAFKA_BROKERS=localhost:9092 DATABASE_URL=postgres://user:password@localhost/fleet npx fleetbridge init',
    )
    .action(async (flags: { json?: true }) => (await import('./run/init.ts')).init(flags))
}
