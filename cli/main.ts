import { Socket } from 'node:net'
import { CommanderError } from 'commander'
import { reportError } from './failure.ts'
import { createProgram } from './program.ts'

endWithWrapper()
endWithReader()

try {
  await createProgram().parseAsync()
} catch (error) {
  // Commander has printed its own; 0 is --help and --version, all else is a command that was not understood.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else process.exitCode = reportError(error)
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
