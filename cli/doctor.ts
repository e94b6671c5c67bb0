import { Command } from 'commander'

export function createDoctorCommand(): Command {
  return new Command('doctor')
    .description(
      'look at this machine, its settings and the servers behind it, and say what to mend; ends with 0, 1 (something to look at) or 2 (something to mend)',
    )
    .option(
      '--json',
      'print one object: verdict, and checks with name, verdict and findings (verdict, seen, advice, line)',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge doctor\n  $ KAFKA_BROKERS=localhost:9092 DATABASE_URL=postgres://user:password@localhost/fleet npx fleetbridge doctor --json',
    )
    .action(async (flags: { json?: true }) => (await import('./doctor/doctor.ts')).doctor(flags)) // what the other commands need not load
}
