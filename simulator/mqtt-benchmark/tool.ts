import { execFile, spawn } from 'node:child_process'
import { promisify } from 'node:util'
import { BridgeError } from '#platform/errors.ts'

/** One load as mqtt-benchmark runs it: `clients` connections, each with one message in flight. */
export interface Setting {
  readonly clients: number
  /** Messages of each client. */
  readonly count: number
  readonly qos: 0 | 1 | 2
  /** Bytes of a payload, at least {@link leastPayloadBytes}. */
  readonly size: number
  /** Whole seconds between two messages of a client; 0: as fast as answers come. The tool's own default is 1. */
  readonly intervalSeconds: number
}

export interface Broker {
  /** tcp://host:port */
  readonly url: string
  readonly topic: string
  readonly username?: string
  readonly password?: string
}

/** What the tool says at its end, added up over its processes. Times in milliseconds; QoS 0 counts what was written, not what arrived. */
export interface ToolResult {
  readonly acknowledged: number
  readonly failed: number
  readonly seconds: number
  readonly messagesPerSecond: number
  readonly meanMs: number
  readonly maxMs: number
}

/** The members of its JSON that we read (`-format json`, version 0.2). */
interface ToolJson {
  readonly totals: {
    readonly successes: number
    readonly failures: number
    readonly total_run_time: number
    readonly msg_time_max: number
    readonly msg_time_mean_avg: number
  }
}

const image = 'krylovsk/mqtt-benchmark'
export const leastPayloadBytes = 40

/** How the tool is started here. */
export interface Tool {
  readonly file: string
  readonly args: readonly string[]
}

/**
 * From MQTT_BENCHMARK or PATH, else its container image.
 * @throws BridgeError BRIDGE_USAGE with the line that installs it
 */
export async function findTool(): Promise<Tool> {
  const file = process.env.MQTT_BENCHMARK ?? 'mqtt-benchmark'
  if (await answers(file, ['-h'])) return { file, args: [] }
  for (const engine of ['docker', 'podman'])
    if (await answers(engine, ['version'])) return { file: engine, args: ['run', '--rm', '--network', 'host', image] }
  throw new BridgeError(
    'BRIDGE_USAGE',
    `${file} is not here. Install it with "go install github.com/krylovsk/mqtt-benchmark@main" and put $(go env GOPATH)/bin on PATH, ` +
      `name its file in MQTT_BENCHMARK, or start docker: its image is ${image}`,
  )
}

async function answers(file: string, args: readonly string[]): Promise<boolean> {
  try {
    await promisify(execFile)(file, [...args], { timeout: 20_000 })
    return true
  } catch (error) {
    // Its -h ends with 0 or 2, by the version of Go that built it.
    return (error as { code?: unknown }).code === 2
  }
}

/** A message that says something: a number, and text that fills it up to the size. */
export function payloadOf(size: number): string {
  const empty = '{"values":{"mqtt_benchmark":1,"pad":""}}'
  return empty.replace('""', `"${'x'.repeat(Math.max(0, size - empty.length))}"`)
}

/**
 * Runs the tool, one process for each broker login, side by side; each process takes its part of the clients.
 * @throws BridgeError BRIDGE_USAGE when it ends without a result, with what it said
 */
export async function runTool(
  tool: Tool,
  setting: Setting,
  logins: readonly Broker[],
  name: string,
): Promise<ToolResult> {
  const parts = await Promise.all(
    logins.map((login, index) => {
      const clients = share(setting.clients, logins.length, index)
      return clients === 0 ? undefined : runOne(tool, { ...setting, clients }, login, `${name}-${index}`)
    }),
  )
  return addUp(parts.filter((part) => part !== undefined))
}

/** @returns the parts of a whole differ by one at most */
export function share(whole: number, parts: number, index: number): number {
  return Math.floor(whole / parts) + (index < whole % parts ? 1 : 0)
}

async function runOne(tool: Tool, setting: Setting, broker: Broker, clientPrefix: string): Promise<ToolJson['totals']> {
  const flags: Record<string, string | number | undefined> = {
    broker: broker.url,
    topic: broker.topic,
    username: broker.username,
    password: broker.password,
    clients: setting.clients,
    count: setting.count,
    qos: setting.qos,
    payload: payloadOf(setting.size),
    'client-prefix': clientPrefix,
    'message-interval': setting.intervalSeconds,
    format: 'json',
  }
  const args = Object.entries(flags).flatMap(([flag, value]) => (value === undefined ? [] : [`-${flag}=${value}`]))
  const { stdout, stderr } = await outputOf(tool.file, [...tool.args, ...args, '-quiet'])
  const totals = totalsOf(stdout)
  if (totals !== undefined) return totals
  const said = `${stderr}${stdout}`.trim().split('\n').slice(-3).join('; ').slice(0, 500)
  throw new BridgeError(
    'BRIDGE_USAGE',
    `mqtt-benchmark ended without a result from ${broker.url}, as it does when no message was acknowledged: ${said || 'it said nothing'}`,
  )
}

function outputOf(file: string, args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const texts = { stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr'] as const)
      child[stream].setEncoding('utf8').on('data', (text: string) => {
        // It may log a line a message; only the end is of use.
        texts[stream] = (texts[stream] + text).slice(-8_000_000)
      })
    child.on('error', reject)
    child.on('close', () => resolve(texts))
  })
}

function totalsOf(stdout: string): ToolJson['totals'] | undefined {
  const start = stdout.indexOf('{')
  if (start < 0) return undefined
  try {
    const { totals } = JSON.parse(stdout.slice(start)) as Partial<ToolJson>
    return typeof totals?.successes === 'number' && typeof totals.total_run_time === 'number' ? totals : undefined
  } catch {
    return undefined
  }
}

/** The processes ran at the same time, so the longest is the time of all. */
function addUp(parts: readonly ToolJson['totals'][]): ToolResult {
  const sum = (of: (part: ToolJson['totals']) => number) => parts.reduce((total, part) => total + of(part), 0)
  const acknowledged = sum(({ successes }) => successes)
  const seconds = Math.max(...parts.map(({ total_run_time }) => total_run_time))
  return {
    acknowledged,
    failed: sum(({ failures }) => failures),
    seconds,
    messagesPerSecond: acknowledged / seconds,
    meanMs: sum(({ successes, msg_time_mean_avg }) => successes * msg_time_mean_avg) / Math.max(1, acknowledged),
    maxMs: Math.max(...parts.map(({ msg_time_max }) => msg_time_max)),
  }
}
