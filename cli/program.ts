import { Command } from 'commander'
import { createAdminTokensCommand } from './admin-tokens.ts'
import { createAuditCommand } from './audit.ts'
import { createCodecsCommand } from './codecs.ts'
import { createCredentialsCommand } from './credentials.ts'
import { createDeadLettersCommand } from './dead-letters.ts'
import { createDecodeCommand } from './decode.ts'
import { createDeviceTypesCommand } from './device-types.ts'
import { createDevicesCommand } from './devices.ts'
import { createDoctorCommand } from './doctor.ts'
import { createExportCommand } from './export.ts'
import { createGatewayCommand } from './gateway.ts'
import { createImportCommand } from './import.ts'
import { createInitCommand } from './init.ts'
import { createLimitsCommand } from './limits.ts'
import { createRedecodeCommand } from './redecode.ts'
import { createRetentionCommand } from './retention.ts'
import { createRollupsCommand } from './rollups.ts'
import { createSimulateCommand } from './simulate.ts'
import { createSqlCommand } from './sql.ts'
import { createStatusCommand } from './status.ts'
import { createTenantsCommand } from './tenants.ts'
import { createUpCommand } from './up.ts'
import { version } from './version.ts'
import { createWorkerCommand } from './worker.ts'

/** Every command that there is, with its settings; nothing runs yet. Ends by throwing CommanderError, never the process. */
export function createProgram(): Command {
  const program = new Command('fleetbridge')
    .description('MQTT and HTTP in, Kafka in the middle, Postgres rows out: an acknowledgement means durable.')
    .version(version)
    .exitOverride()
    .showHelpAfterError('(--help says what there is)')
    .addHelpText(
      'after',
      '\nStart here:\n  $ npm start\n\nSettings come from BRIDGE_… variables and fleetbridge.yaml: docs/configuration.md' +
        '\nExit codes: 0 done, 1 it failed, 2 the command was not understood (doctor: 1 warnings, 2 something to mend)',
    )
  for (const command of [
    createUpCommand(),
    createGatewayCommand(),
    createWorkerCommand(),
    createInitCommand(),
    createStatusCommand(),
    createDoctorCommand(),
    createSqlCommand(),
    createDevicesCommand(),
    createCredentialsCommand(),
    createTenantsCommand(),
    createAdminTokensCommand(),
    createLimitsCommand(),
    createDeadLettersCommand(),
    createRollupsCommand(),
    createRetentionCommand(),
    createImportCommand(),
    createExportCommand(),
    createDecodeCommand(),
    createCodecsCommand(),
    createRedecodeCommand(),
    createDeviceTypesCommand(),
    createSimulateCommand().addHelpText(
      'after',
      '\nExample:\n  $ npx fleetbridge simulate --devices 200 --rate 2000 --duration 30s --mqtt',
    ),
    createAuditCommand(),
  ])
    program.addCommand(inheriting(command, program))
  return program
}

/** A command that was made elsewhere has not the program's settings, nor have its own. */
function inheriting(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent)
  const [first] = command.commands
  if (first !== undefined)
    command.addHelpText(
      'after',
      `\nEach of them has examples:\n  $ npx fleetbridge ${command.name()} ${first.name()} --help`,
    )
  for (const inner of command.commands) inheriting(inner, command)
  return command
}
