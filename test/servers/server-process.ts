import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

export const run = promisify(execFile)

export interface Command {
  /** What it is, for messages. */
  readonly name: string
  readonly file: string
  readonly args: readonly string[]
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** Makes it another user's process. */
  readonly as?: (file: string, args: readonly string[]) => { file: string; args: string[]; uid?: number; gid?: number }
  readonly logFile: string
  /** Resolves true when the server serves. */
  readonly ready: () => Promise<boolean>
  readonly startMs: number
}

/** A server under test: it can be killed, frozen and started again, and ends with the process that started it. */
export interface ServerProcess extends AsyncDisposable {
  readonly pid: number
  kill(signal?: NodeJS.Signals): Promise<void>
  restart(): Promise<void>
  /**
   * Freezes it. What must be closed while the server answers is to be declared before `using frozen = server.pause()`: a test that fails
   * meanwhile ends the freeze first, and does not wait for ever.
   */
  pause(): Disposable
  resume(): void
  /** @param signal SIGTERM when it is not given */
  close(signal?: NodeJS.Signals): Promise<void>
}

const running = new Set<ChildProcess>()
/** Servers that are not closed yet, for what is said of a failed test. */
const opened = new Map<object, { name: string; logFile: string; pid: () => number; revive: () => Promise<void> }>()
let hooked = false

/** Starts a server and waits until it serves; its output goes to a file, whose end is in the error when it does not. */
export async function startServerProcess(command: Command): Promise<ServerProcess> {
  let child = await launch(command)
  const isOver = () => child.exitCode !== null || child.signalCode !== null
  const end = async (signal: NodeJS.Signals) => {
    if (isOver()) return
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    const all = [child.pid as number, ...childrenOf(child)] // those of a dead process cannot be found any more
    child.kill(signal)
    signalAll(all, 'SIGCONT') // a frozen process takes no other signal but SIGKILL
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(timer)
  }
  const resume = () => signalAll([child.pid as number, ...childrenOf(child)], 'SIGCONT')
  const restart = async () => {
    await end('SIGTERM')
    child = await relaunch(command)
  }
  const close = async (signal: NodeJS.Signals = 'SIGTERM') => {
    opened.delete(end)
    await end(signal)
  }
  const revive = async () => {
    if (isOver()) await restart()
    else resume()
  }
  opened.set(end, { name: command.name, logFile: command.logFile, pid: () => child.pid as number, revive })
  return {
    get pid() {
      return child.pid as number
    },
    kill: (signal = 'SIGKILL') => end(signal),
    restart,
    pause() {
      signalAll([child.pid as number, ...childrenOf(child)], 'SIGSTOP')
      return { [Symbol.dispose]: resume }
    },
    resume,
    close,
    [Symbol.asyncDispose]: () => close(),
  }
}

/** As they were before a test broke them: frozen no more, and started again where they are gone. */
export async function reviveServers(): Promise<void> {
  await Promise.allSettled([...opened.values()].map(({ revive }) => revive()))
}

/** Each server of this process: whether it runs, is stopped or gone, and the end of its log. */
export function describeServers(): string {
  const lines = [...opened.values()].map(({ name, logFile, pid }) => {
    const log = existsSync(logFile) ? tail(logFile).split('\n').slice(-12).join('\n') : 'no log'
    return `${name} (process ${pid()}, ${stateOf(pid())}), its log ends with:\n${log}`
  })
  return lines.join('\n')
}

function stateOf(pid: number): string {
  try {
    return /^State:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 'unknown'
  } catch {
    return 'gone'
  }
}

/** What a killed server left behind (children that still end, a port in TIME_WAIT) may refuse the next one for a moment. */
async function relaunch(command: Command): Promise<ChildProcess> {
  const deadline = Date.now() + 10_000
  for (;;) {
    try {
      return await launch(command)
    } catch (error) {
      if (Date.now() > deadline) throw error
      await sleep(200)
    }
  }
}

/** Postgres serves each connection in a process of its own; a frozen server is all of them. */
function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch {
      // it ended meanwhile
    }
  }
}

function childrenOf({ pid }: ChildProcess): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

async function launch(command: Command): Promise<ChildProcess> {
  endWithThisProcess()
  const { name, file, args, cwd, env, as, logFile } = command
  const log = openSync(logFile, 'a')
  const [program, programArgs] = dyingWithParent(file, args)
  const { file: first, args: rest, ...user } = as?.(program, programArgs) ?? { file: program, args: programArgs }
  const child = spawn(first, rest, {
    stdio: ['ignore', log, log],
    ...(cwd !== undefined && { cwd }),
    ...(env !== undefined && { env: { ...process.env, ...env } }),
    ...user,
  })
  closeSync(log)
  running.add(child)
  let failure: Error | undefined
  child.once('error', (error) => (failure = error))
  child.once('exit', () => running.delete(child))
  const deadline = Date.now() + command.startMs
  while (!(await command.ready().catch(() => false))) {
    const over = child.exitCode !== null || child.signalCode !== null
    if (failure === undefined && !over && Date.now() < deadline) {
      await sleep(50)
      continue
    }
    child.kill('SIGKILL')
    const why = failure?.message ?? (over ? 'it ended' : `it did not serve within ${command.startMs} ms`)
    throw new Error(`${name} did not start: ${why}. Its log (${logFile}) ends with:\n${tail(logFile)}`)
  }
  return child
}

/** Linux ends the child with its parent even when that gets SIGKILL; elsewhere the exit hook must do. */
function dyingWithParent(file: string, args: readonly string[]): [string, string[]] {
  if (!existsSync('/usr/bin/setpriv')) return [file, [...args]]
  return ['/usr/bin/setpriv', ['--pdeathsig', 'KILL', '--', file, ...args]]
}

function endWithThisProcess(): void {
  if (hooked) return
  hooked = true
  process.once('exit', () => {
    for (const child of running) child.kill('SIGKILL')
  })
}

function tail(file: string): string {
  return readFileSync(file, 'utf8').split('\n').slice(-25).join('\n')
}

/** Whether something accepts connections there. */
export function accepts(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host, timeout: 1000 })
    const answer = (open: boolean) => {
      socket.destroy()
      resolve(open)
    }
    socket.once('connect', () => answer(true))
    socket.once('error', () => answer(false))
    socket.once('timeout', () => answer(false))
  })
}

/** @throws Error that names the line which installs the program */
export async function needProgram(program: string, versionArgs: readonly string[], install: string): Promise<void> {
  try {
    await run(program, [...versionArgs])
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return
    throw new Error(`the tests need "${program}", which is not on PATH. Install it: ${install}`)
  }
}
