import { Socket } from 'node:net'
import { Command, CommanderError } from 'commander'
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
import { reportError } from './failure.ts'
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

endWithWrapper()
endWithReader()
const program = new Command('fleetbridge')
  .description('MQTT and HTTP in, Kafka in the middle, Postgres rows out: an acknowledgement means durable.')
  .version(version)
  .exitOverride()
  .showHelpAfterError('(--help says what there is)')
  .addHelpText(
    'after',
    '\nStart here:\n  $ npm start\n\nSettings come from BRIDGE_… variables and fleetbridge.yaml: docs/configuration.md',
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

try {
  await program.parseAsync()
} catch (error) {
  // Commander has printed its own; 0 is --help and --version, all else is a command that was not understood.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else process.exitCode = reportError(error)
}

/** A command that was made elsewhere has not the program's settings, nor have its own. */
function inheriting(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent)
  for (const inner of command.commands) inheriting(inner, command)
  return command
}

/** On an old Node, bin/fleetbridge.js waits for this process; when that one is killed, this one must not stay behind unseen. */
function endWithWrapper(): void {
  const { FLEETBRIDGE_PARENT_FD: fd } = process.env
  if (fd === undefined) return
  delete process.env.FLEETBRIDGE_PARENT_FD
  const pipe = new Socket({ fd: Number(fd) })
  const end = () => process.kill(process.pid, 'SIGKILL') // as it was to the other one
  pipe.on('error', end).on('close', end).resume().unref()
}

/** `fleetbridge … | head`: the reader has what it wanted, so the command ends as by SIGPIPE. A server goes on without one. */
function endWithReader(): void {
  const serves = ['up', 'gateway', 'worker'].includes(process.argv[2] ?? '')
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code === 'EPIPE' && !serves) process.exit(141)
    })
}
