import { Command } from 'commander'

export function createWorkerCommand(): Command {
  return new Command('worker')
    .description('Kafka to rows; as many as there are partitions')
    .addHelpText(
      'after',
      '\nExample:\n  $ KAFKA_BROKERS=localhost:9092 DATABASE_URL=postgres://user:password@localhost/fleet npx fleetbridge worker',
    )
    .action(async () => (await import('./run/worker.ts')).worker())
}
