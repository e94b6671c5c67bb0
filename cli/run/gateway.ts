import { startAdminListener } from '#gateway/admin/admin-listener.ts'
import { type Gateway, startGateway } from '#gateway/gateway.ts'
import { startRoutes } from '#gateway/routes/live-routes.ts'
import { changedSettings } from '#platform/config.ts'
import { createLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { startOpsListener } from '#platform/ops-listener.ts'
import { checkStart } from '#platform/start-checks.ts'
import { devicePorts, deviceUrls, opsPort, reachableHost } from '../addresses.ts'
import { print } from '../output.ts'
import { needPorts } from '../ports.ts'
import { ProcessParts } from '../process-parts.ts'
import { version } from '../version.ts'
import { distributedConfig, needSchema } from './distributed.ts'

export async function gateway(): Promise<void> {
  const { config, databaseUrl } = distributedConfig('gateway')
  checkStart(config)
  const log = createLog('fleetbridge-gateway', config.log.level)
  const metrics = createMetrics(version)
  const routes = await startRoutes({ environment: process.env, log, metrics }) // before a port is opened
  const port = opsPort(config.ops.port, 'gateway')
  await needPorts([
    ...devicePorts(config),
    { variable: 'BRIDGE_OPS_PORT', host: config.ops.host, port },
    { variable: 'BRIDGE_ADMIN_PORT', ...config.admin },
  ])
  await needSchema(databaseUrl, log)
  log.info({ version, settings: changedSettings(config) }, 'starting')
  const parts = new ProcessParts(log, config.shutdownMs)
  parts.add('route table', routes)
  parts.onHangUp(() => routes.reload())
  try {
    // Before the gateway, so that /readyz is there while it starts and while it stops.
    let running: Gateway | undefined
    const ready = () => running?.ready() ?? { ok: false, detail: { starting: true } }
    const ops = parts.add('ops listener', await startOpsListener({ host: config.ops.host, port, metrics, ready, log }))
    running = parts.add('gateway', await startGateway(config, { databaseUrl, routes, log, metrics }))
    const { token } = config.admin
    const ownToken = token === undefined ? undefined : ({ name: 'config', token } as const)
    const admin = parts.add(
      'admin listener',
      await startAdminListener(config.admin, { databaseUrl, ownToken, replayer: running.replayer, log }),
    )
    parts.started()
    const { eventLog, rateLimiter, ackLevel } = running
    const urls = Object.values(deviceUrls(config, running)).filter((url) => url !== null)
    await print(
      `fleetbridge gateway ${version}: ${urls.join(' ')} ` +
        `ops http://${reachableHost(config.ops.host)}:${ops.port} admin http://${reachableHost(config.admin.host)}:${admin.port} event log ${eventLog} limits ${rateLimiter} ack ${ackLevel}`,
    )
  } catch (error) {
    await parts.closeAll()
    throw error
  }
}
