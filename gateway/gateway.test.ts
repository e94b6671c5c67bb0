import { expect, it } from 'vitest'
import { loadConfig } from '#platform/config.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { startGateway } from './gateway.ts'

it.each([
  ['BRIDGE_MQTT_HOST', { BRIDGE_HTTP_HOST: '127.0.0.1' }],
  ['BRIDGE_MQTT_HOST', { BRIDGE_MQTT_HOST: '127.0.0.1.example.org' }],
  ['BRIDGE_MQTT_HOST', { BRIDGE_MQTT_HOST: '::' }],
  ['BRIDGE_HTTP_HOST', { BRIDGE_MQTT_HOST: 'localhost' }],
])('open mode is for this machine alone: %s is named of %j', async (setting, environment) => {
  const config = loadConfig({ BRIDGE_MQTT_OPEN: 'true', ...environment })
  const databaseUrl = 'postgres://nobody@127.0.0.1:1/none' // it does not come to that
  const started = startGateway(config, { databaseUrl, log: silentLog, metrics: createMetrics('test') })
  await expect(started).rejects.toMatchObject({
    code: 'BRIDGE_CONFIG_INVALID',
    message: expect.stringMatching(new RegExp(`BRIDGE_MQTT_OPEN.*${setting}`)),
  })
})
