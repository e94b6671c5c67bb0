import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './free-port.ts'
import { kafkaJars } from './kafka-jars.ts'
import { accepts, needProgram, run, type ServerProcess, startServerProcess } from './server-process.ts'

export interface KafkaServer extends ServerProcess {
  /** host:port */
  readonly brokers: string
  readonly port: number
}

/** A node's place among several. */
export interface KafkaNode {
  readonly id: number
  readonly clusterId: string
  readonly controllerPort: number
  /** `1@host:port,…` of all. */
  readonly voters: string
  readonly nodes: number
}

/** A Kafka of one node (KRaft, broker and controller in one), or one of several. After SIGKILL `restart()` takes about 7 s. */
export async function startKafka(
  options: { dir?: string; port?: number; node?: KafkaNode } = {},
): Promise<KafkaServer> {
  await needProgram('java', ['-version'], 'apt-get install -y openjdk-17-jre-headless')
  const jars = await kafkaJars()
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'fleetbridge-kafka-')))
  const port = options.port ?? (await freePort())
  const properties = join(dir, 'server.properties')
  const node = options.node ?? oneNode(await freePort())
  await writeFile(properties, serverProperties(dir, port, node))
  await writeFile(join(dir, 'log4j2.xml'), log4j2)
  const classPath = `${jars}/*`
  await run('java', [
    ...jvm(dir),
    '-cp',
    classPath,
    'kafka.tools.StorageTool',
    'format',
    '-g',
    '-t',
    node.clusterId,
    '-c',
    properties,
  ])
  const server = await startServerProcess({
    name: 'Kafka',
    file: 'java',
    args: [...jvm(dir), '-cp', classPath, 'kafka.Kafka', properties],
    logFile: join(dir, 'kafka.log'),
    ready: () => accepts(port),
    startMs: options.node === undefined ? 60_000 : 180_000, // several share the machine
  })
  const close = async () => {
    await server.close('SIGKILL') // an orderly stop takes seconds and its data goes anyway
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
  }
  return Object.defineProperties(
    { ...server, brokers: `127.0.0.1:${port}`, port, close, [Symbol.asyncDispose]: close },
    { pid: { get: () => server.pid } },
  )
}

export function newClusterId(): string {
  return randomBytes(16).toString('base64url').replace(/^-/, 'A') // a leading dash would be taken for an option
}

function oneNode(controllerPort: number): KafkaNode {
  return { id: 1, clusterId: newClusterId(), controllerPort, voters: `1@127.0.0.1:${controllerPort}`, nodes: 1 }
}

const jvm = (dir: string) => [
  '-Xms128m',
  '-Xmx512m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1', // starts a second sooner
  `-Dlog4j2.configurationFile=${join(dir, 'log4j2.xml')}`,
]

/** Short sessions: after SIGKILL the controller keeps the old broker's registration for broker.session.timeout.ms. */
const serverProperties = (dir: string, port: number, { id, controllerPort, voters, nodes }: KafkaNode) => `
process.roles=broker,controller
node.id=${id}
controller.quorum.voters=${voters}
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=PLAINTEXT://127.0.0.1:${port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=${join(dir, 'data')}
num.partitions=1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=${nodes}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=${nodes}
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=${nodes}
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
`

const log4j2 = `<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/></Console></Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
`
