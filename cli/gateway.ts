import { Command } from 'commander'

export function createGatewayCommand(): Command {
  return new Command('gateway')
    .description('devices in: MQTT and HTTP to Kafka; as many as you like, behind a TCP balancer')
    .addHelpText(
      'after',
      '\nExample:\n  $ KAFKA_BROKERS=localhost:9092 DATABASE_URL=postgres://user:password@localhost/fleet npx fleetbridge gateway',
    )
    .action(async () => (await import('./run/gateway.ts')).gateway())
}
