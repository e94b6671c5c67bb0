import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const bin = fileURLToPath(new URL('../../bin/fleetbridge.js', import.meta.url))

/** One `fleetbridge` process as a user runs it, with its output kept for messages of failing tests. */
export class BridgeProcess implements AsyncDisposable {
  readonly child: ChildProcess
  output = ''
  readonly exited: Promise<number | null>

  constructor(args: readonly string[], env: NodeJS.ProcessEnv, cwd?: string) {
    this.child = spawn(process.execPath, [bin, ...args], {
      // Its port alone is of no matter to most tests, and several processes run at once.
      env: { ...cleanEnvironment(), BRIDGE_ADMIN_PORT: '0', ...env },
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output = (this.output + text).slice(-200_000)
      })
    this.exited = once(this.child, 'exit').then(([code]) => code as number | null)
  }

  get pid(): number {
    return this.child.pid as number
  }

  running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  /** Waits until a condition holds, and says what the process printed when it does not. */
  async until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<void> {
    const end = performance.now() + timeoutMs
    while (!(await holds())) {
      if (!this.running()) throw new Error(`the process ended before ${what}:\n${this.output}`)
      if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}\n${this.output}`)
      await sleep(20)
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.running()) this.child.kill(signal)
    return this.exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.running()) return
    this.child.kill('SIGTERM')
    const killer = setTimeout(() => this.child.kill('SIGKILL'), 10_000)
    await this.exited
    clearTimeout(killer)
  }
}

/** Runs a command to its end; its standard output on success. */
export async function run(args: readonly string[], env: NodeJS.ProcessEnv, cwd?: string): Promise<string> {
  const child = spawn(process.execPath, [bin, ...args], {
    env: { ...cleanEnvironment(), ...env },
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`fleetbridge ${args.join(' ')} ended with ${code}:\n${stdout}${stderr}`)
  return stdout
}

/** The environment without our own settings, so that a test means what it says. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !name.startsWith('BRIDGE_') && !['KAFKA_BROKERS', 'REDIS_URL', 'DATABASE_URL'].includes(name),
    ),
  )
}
