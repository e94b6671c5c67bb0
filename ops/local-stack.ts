import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '#test/servers/free-port.ts'
import { accepts, needProgram, startServerProcess } from '#test/servers/server-process.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import { readText } from './container-files.ts'

export interface LocalStackOptions {
  readonly kafkaBrokers: string
  readonly redisUrl: string
  readonly databaseUrl: string
  readonly env?: NodeJS.ProcessEnv
  /** What docker-compose.tls.yml adds; files in PEM. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string }
}

/** Where one gateway listens; devices come by the balancer. */
export interface GatewayPorts {
  readonly mqtt: number
  readonly http: number
  /** Opened with {@link LocalStackOptions.tls} only. */
  readonly mqtts: number
  readonly https: number
  readonly ops: number
}

export interface LocalStack extends AsyncDisposable {
  /** Of the balancer. */
  readonly mqttPort: number
  readonly httpPort: number
  readonly mqttsPort: number
  readonly httpsPort: number
  readonly statsPort: number
  readonly gateways: readonly BridgeProcess[]
  readonly workers: readonly BridgeProcess[]
  /** Where each gateway, then each worker, serves /metrics and /readyz. */
  readonly opsUrls: readonly string[]
  /** What every process of it was given. */
  readonly env: NodeJS.ProcessEnv
  /** SIGTERM, then the same again on its old ports, until /readyz is 200; its exit code. As an upgrade does it. */
  restartGateway(index: number): Promise<number | null>
  restartWorker(index: number): Promise<number | null>
  /** One more, and where it serves /metrics and /readyz. */
  addWorker(): Promise<{ readonly process: BridgeProcess; readonly opsUrl: string }>
}

/** The topology of docker-compose.yml as processes of this machine, on free ports of loopback: two gateways behind HAProxy, two workers. */
export async function startLocalStack(options: LocalStackOptions): Promise<LocalStack> {
  await needProgram('haproxy', ['-v'], 'apt-get install -y haproxy')
  await using opened = new AsyncDisposableStack()
  const env = {
    KAFKA_BROKERS: options.kafkaBrokers,
    REDIS_URL: options.redisUrl,
    DATABASE_URL: options.databaseUrl,
    ...options.env,
  }
  await run(['init'], env)
  const processes = opened.use(new AsyncDisposableStack())
  const start = async (command: string, opsPort: number, more: NodeJS.ProcessEnv = {}) => {
    const process = processes.use(new BridgeProcess([command], { ...env, BRIDGE_OPS_PORT: String(opsPort), ...more }))
    await process.until(`${command}: /readyz is 200`, () => ready(opsPort))
    return process
  }
  const [mqttPort, httpPort, statsPort] = [await freePort(), await freePort(), await freePort()]
  const [mqttsPort, httpsPort] = [await freePort(), await freePort()]
  const workerPorts = [await freePort(), await freePort()]
  const gatewayPorts = [await freeGatewayPorts(), await freeGatewayPorts()]
  const startWorker = (port: number) => start('worker', port)
  const { certFile, keyFile } = options.tls ?? {}
  const startGateway = ({ mqtt, http, mqtts, https, ops }: GatewayPorts) =>
    start('gateway', ops, {
      BRIDGE_MQTT_PORT: String(mqtt),
      BRIDGE_MQTT_HOST: '127.0.0.1',
      BRIDGE_HTTP_PORT: String(http),
      BRIDGE_HTTP_HOST: '127.0.0.1',
      BRIDGE_PROXY_FROM: '127.0.0.1',
      BRIDGE_MQTT_TLS_PORT: String(mqtts),
      BRIDGE_HTTP_TLS_PORT: String(https),
      BRIDGE_TLS_CERT_FILE: certFile,
      BRIDGE_TLS_KEY_FILE: keyFile,
    })
  const [workers, gateways] = await Promise.all([
    Promise.all(workerPorts.map(startWorker)),
    Promise.all(gatewayPorts.map(startGateway)),
  ])
  const folder = await mkdtemp(join(tmpdir(), 'fleetbridge-haproxy-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  const configFile = join(folder, 'haproxy.cfg')
  const binds = new Map([
    [1883, mqttPort],
    [8080, httpPort],
    [8883, mqttsPort],
    [8443, httpsPort],
    [8404, statsPort],
  ])
  await writeFile(configFile, localHaproxyConfig(readText('ops/haproxy.cfg'), binds, gatewayPorts))
  opened.use(
    await startServerProcess({
      name: 'HAProxy',
      file: 'haproxy',
      args: ['-db', '-f', configFile],
      logFile: join(folder, 'haproxy.log'),
      ready: () => accepts(mqttPort),
      startMs: 10_000,
    }),
  )
  const held = opened.move()
  return {
    env,
    mqttPort,
    httpPort,
    mqttsPort,
    httpsPort,
    statsPort,
    gateways,
    workers,
    opsUrls: [...gatewayPorts.map(({ ops }) => ops), ...workerPorts].map((port) => `http://127.0.0.1:${port}`),
    async restartGateway(index) {
      const code = await gateways[index]?.stop()
      gateways[index] = await startGateway(gatewayPorts[index] as GatewayPorts)
      return code ?? null
    },
    async restartWorker(index) {
      const code = await workers[index]?.stop()
      workers[index] = await startWorker(workerPorts[index] as number)
      return code ?? null
    },
    async addWorker() {
      const port = await freePort()
      return { process: await startWorker(port), opsUrl: `http://127.0.0.1:${port}` }
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([...gateways, ...workers].map((process) => process[Symbol.asyncDispose]()))
      await held.disposeAsync()
    },
  }
}

/**
 * What compose ships, with addresses of this machine: gateway-N becomes loopback with its ports, and there are no names to ask for.
 * @param binds port in the file → port here
 */
export function localHaproxyConfig(
  shipped: string,
  binds: ReadonlyMap<number, number>,
  gateways: readonly GatewayPorts[],
): string {
  const portOf = (number: string, port: string): string => {
    const gateway = gateways[Number(number) - 1]
    const name = shippedPorts.get(port)
    const found = name && gateway?.[name]
    if (found === undefined) throw new Error(`ops/haproxy.cfg names gateway-${number}, which does not run here`)
    return String(found)
  }
  return shipped
    .replace(/^resolvers .*\n(?: .*\n)*/m, '')
    .replace(' resolvers engine init-addr libc,none', '')
    .replace(/maxconn \d+/, 'maxconn 2000') // a user's limit of open files
    .replace(/bind :(\d+)/g, (_, port: string) => `bind 127.0.0.1:${binds.get(Number(port))}`)
    .replace(/ gateway-(\d):(\d+)(.*)/g, (_, number: string, port: string, rest: string) => {
      const checked = rest.replace(/check port (\d+)/, (__, ops: string) => `check port ${portOf(number, ops)}`)
      return ` 127.0.0.1:${portOf(number, port)}${checked}`
    })
}

/** The gateways' ports in ops/haproxy.cfg. */
const shippedPorts = new Map<string, keyof GatewayPorts>([
  ['1883', 'mqtt'],
  ['8080', 'http'],
  ['8883', 'mqtts'],
  ['8443', 'https'],
  ['8081', 'ops'],
])

async function freeGatewayPorts(): Promise<GatewayPorts> {
  const ports = []
  for (let count = 0; count < 5; count++) ports.push(await freePort())
  const [mqtt, http, mqtts, https, ops] = ports as [number, number, number, number, number]
  return { mqtt, http, mqtts, https, ops }
}

async function ready(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(2000) })).ok
  } catch {
    return false
  }
}
