import { changedSettings } from '#platform/config.ts'
import { createLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { startOpsListener } from '#platform/ops-listener.ts'
import { checkDatabaseSecret } from '#platform/start-checks.ts'
import { workerGroup } from '#schema/kafka-topics.ts'
import { startWorker, type Worker } from '#worker/worker.ts'
import { opsPort, reachableHost } from '../addresses.ts'
import { print } from '../output.ts'
import { needPorts } from '../ports.ts'
import { ProcessParts } from '../process-parts.ts'
import { version } from '../version.ts'
import { distributedConfig, needSchema } from './distributed.ts'

export async function worker(): Promise<void> {
  const { config, databaseUrl } = distributedConfig('worker')
  checkDatabaseSecret(config)
  const log = createLog('fleetbridge-worker', config.log.level)
  const port = opsPort(config.ops.port, 'worker')
  await needPorts([{ variable: 'BRIDGE_OPS_PORT', host: config.ops.host, port }])
  await needSchema(databaseUrl, log)
  log.info({ version, settings: changedSettings(config) }, 'starting')
  const metrics = createMetrics(version)
  const parts = new ProcessParts(log, config.shutdownMs)
  try {
    // Before the worker, so that /readyz is there while it starts and while it stops.
    let running: Worker | undefined
    const ready = () => running?.ready() ?? { ok: false, detail: { starting: true } }
    const ops = parts.add('ops listener', await startOpsListener({ host: config.ops.host, port, metrics, ready, log }))
    running = parts.add('worker', await startWorker(config, { log, metrics }))
    parts.started()
    await print(
      `fleetbridge worker ${version}: ops http://${reachableHost(config.ops.host)}:${ops.port} group ${workerGroup(config.kafka)}`,
    )
  } catch (error) {
    await parts.closeAll()
    throw error
  }
}
