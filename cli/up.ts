import { Command } from 'commander'

export function createUpCommand(): Command {
  return new Command('up')
    .description(
      'gateway and worker in one process, with a Postgres of its own where DATABASE_URL names none (npm start)',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge up\n  $ BRIDGE_MQTT_PORT=11883 npx fleetbridge up\n  $ KAFKA_BROKERS=localhost:9092 REDIS_URL=redis://localhost npx fleetbridge up',
    )
    .action(async () => (await import('./up/start-up.ts')).up()) // what the other commands need not load
}
