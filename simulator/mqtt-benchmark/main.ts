import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { whole } from '#cli/options.ts'
import { BridgeError } from '#platform/errors.ts'
import { medianOf } from '../median.ts'
import { markdownOf, missingRows, ratiosOf } from './markdown.ts'
import { type Measured, measure } from './measure.ts'
import { openOwn, peerTarget, type Target } from './target.ts'
import { findTool, leastPayloadBytes, type Setting } from './tool.ts'

interface Flags {
  readonly broker?: string
  readonly devices: number
  readonly pid?: ReadonlyMap<string, number>
  readonly rounds: number
  readonly out: string
  readonly count: number
}

interface RunFlags extends Flags {
  readonly clients: number
  readonly qos: 0 | 1 | 2
  readonly size: number
  readonly interval: number
}

interface SweepFlags extends Flags {
  readonly clients: readonly number[]
  readonly qos: readonly (0 | 1 | 2)[]
  readonly size: readonly number[]
  readonly interval: readonly number[]
}

interface CompareFlags extends RunFlags {
  readonly with: string
  readonly withTopic: string
  readonly withUsername?: string
  readonly withPassword?: string
  readonly withPid?: ReadonlyMap<string, number>
}

const program = new Command('mqtt-benchmark')
  .description(
    'runs krylovsk/mqtt-benchmark against fleetbridge with devices of its own, and adds rows in Postgres and CPU a message',
  )
  .exitOverride()
program.addCommand(
  single(new Command('run').description('one setting'))
    .addHelpText('after', '\nExample:\n  $ simulator/mqtt-benchmark/run --clients 50 --count 200')
    .action(async (flags: RunFlags) => {
      await using own = await openOwn({ ...flags, pids: flags.pid ?? new Map() })
      await report(flags, await rounds([own], settingOf(flags), flags.rounds))
    }),
)
program.addCommand(
  common(new Command('sweep').description('every combination of clients, QoS, sizes and intervals'))
    .option('--clients <list>', 'connections', listOf(whole(1, 10_000)), [10, 50, 100])
    .option('--qos <list>', '0, 1, 2', listOf(whole(0, 2)), [0, 1])
    .option('--size <list>', 'bytes of a payload', listOf(whole(leastPayloadBytes, 262_144)), [100, 1000])
    .option('--interval <list>', 'seconds between messages of a client; 0: at once', listOf(whole(0, 3600)), [0])
    .addHelpText('after', '\nExample:\n  $ simulator/mqtt-benchmark/sweep --clients 10,100 --qos 1 --size 100,1000')
    .action(async (flags: SweepFlags) => {
      await using own = await openOwn({ ...flags, pids: flags.pid ?? new Map() })
      const measured: Measured[] = []
      for (const setting of settingsOf(flags)) measured.push(...(await rounds([own], setting, flags.rounds)))
      await report(flags, measured)
    }),
)
program.addCommand(
  single(
    new Command('compare').description(
      "fleetbridge beside another broker: rounds alternate, the median's figures count",
    ),
  )
    .requiredOption('--with <url>', 'the other broker: tcp://host:port')
    .option('--with-topic <topic>', 'what is published to there', 'devices/me/telemetry')
    .option('--with-username <name>', 'login there')
    .option('--with-password <text>', 'login there')
    .option('--with-pid <name=pid>', 'a process of the other broker whose CPU counts; may be repeated', pids)
    .addHelpText(
      'after',
      '\nExample:\n  $ simulator/mqtt-benchmark/compare --with tcp://127.0.0.1:1884 --with-pid mosquitto=$(pidof mosquitto)',
    )
    .action(async (flags: CompareFlags) => {
      await using own = await openOwn({ ...flags, pids: flags.pid ?? new Map() })
      const { with: url, withTopic: topic, withUsername: username, withPassword: password } = flags
      const login = {
        url,
        topic,
        ...(username !== undefined && { username }),
        ...(password !== undefined && { password }),
      }
      // As many processes of the tool as on our side.
      await using peer = peerTarget(login, flags.withPid ?? new Map(), flags.devices)
      await report(flags, await rounds([own, peer], settingOf(flags), flags.rounds))
    }),
)

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else {
    process.stderr.write(
      `${error instanceof BridgeError ? `error ${error.code}: ${error.message}` : (error as Error).stack}\n`,
    )
    process.exitCode = error instanceof BridgeError && error.code === 'BRIDGE_USAGE' ? 2 : 1
  }
}

function common(command: Command): Command {
  return command
    .option('--count <messages>', 'messages of each client', whole(1, 10_000_000), 100)
    .option(
      '--devices <count>',
      "devices to register; the tool's clients are shared out among them",
      whole(1, 1000),
      10,
    )
    .option('--broker <url>', 'tcp://host:port of fleetbridge; the running instance when absent')
    .option('--pid <name=pid>', "a process whose CPU counts, repeated; the running instance's when absent", pids)
    .option('--rounds <count>', 'how often each setting is measured; the median counts', whole(1, 99), 3)
    .option('--out <folder>', 'where mqtt-benchmark.json and mqtt-benchmark.md go', 'bench/results')
}

function single(command: Command): Command {
  return common(command)
    .option('--clients <count>', 'connections, each with one message in flight', whole(1, 10_000), 50)
    .option('--qos <qos>', '0, 1 or 2', whole(0, 2), 1)
    .option('--size <bytes>', 'bytes of a payload', whole(leastPayloadBytes, 262_144), 100)
    .option('--interval <seconds>', 'between messages of a client; 0: at once', whole(0, 3600), 0)
}

/** All targets in turn, so that a machine that slows down slows all of them. */
async function rounds(targets: readonly Target[], setting: Setting, count: number): Promise<Measured[]> {
  const tool = await findTool()
  const measured = new Map<Target, Measured[]>(targets.map((target) => [target, []]))
  for (let round = 1; round <= count; round++)
    for (const target of targets) {
      process.stderr.write(
        `${target.name}: ${setting.clients} clients, QoS ${setting.qos}, ${setting.size} bytes, round ${round} of ${count}\n`,
      )
      measured.get(target)?.push(await measure(tool, target, setting))
    }
  return [...measured.values()].map(medianOf)
}

async function report({ out }: Flags, measured: readonly Measured[]): Promise<void> {
  const markdown = [markdownOf(measured), ratiosOf(measured)].filter((part) => part !== '').join('\n\n')
  mkdirSync(out, { recursive: true })
  const machine = { cores: cpus().length, cpu: cpus()[0]?.model ?? '' }
  writeFileSync(join(out, 'mqtt-benchmark.json'), `${JSON.stringify({ machine, measured }, undefined, 2)}\n`)
  writeFileSync(join(out, 'mqtt-benchmark.md'), `${markdown}\n`)
  process.stdout.write(`${markdown}\n`)
  const missing = missingRows(measured)
  if (missing > 0) {
    process.stderr.write(`FAILED: ${missing} acknowledged messages have no row\n`)
    process.exitCode = 1
  }
}

function settingOf({ clients, count, qos, size, interval }: RunFlags): Setting {
  return { clients, count, qos, size, intervalSeconds: interval }
}

function settingsOf(flags: SweepFlags): Setting[] {
  return flags.clients.flatMap((clients) =>
    flags.qos.flatMap((qos) =>
      flags.size.flatMap((size) =>
        flags.interval.map((intervalSeconds) => ({ clients, count: flags.count, qos, size, intervalSeconds })),
      ),
    ),
  )
}

function listOf(one: (text: string) => number): (text: string) => number[] {
  return (text) => text.split(',').map(one)
}

function pids(text: string, before: ReadonlyMap<string, number> | undefined): Map<string, number> {
  const [, name, pid] = /^([^=]{1,64})=(\d{1,10})$/.exec(text) ?? []
  if (name === undefined) throw new InvalidArgumentError('It must be name=pid.')
  return new Map(before).set(name, Number(pid))
}
