import { changedSettings } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { checkStart } from '#platform/start-checks.ts'
import { type Check, type Finding, fail, ok, warn } from './check.ts'

/** Runs once the settings were read; when they cannot be, that error is all there is to tell. */
export const configuration: Check = {
  name: 'configuration',
  run({ config }) {
    const findings: Finding[] = []
    const changed = Object.keys(changedSettings(config))
    const which = config.kafka.brokers === undefined ? 'no KAFKA_BROKERS: readings go straight to Postgres' : 'Kafka'
    const database = config.database.url === undefined ? 'embedded Postgres' : 'DATABASE_URL'
    findings.push(
      ok(`${which}; ${database}; ${changed.length} setting(s) of your own (${changed.join(', ') || 'none'})`),
    )
    try {
      checkStart(config)
    } catch (error) {
      findings.push(...problemsOf(error).map((problem) => fail(problem)))
    }
    if (config.mqtt.open)
      findings.push(
        warn(
          'BRIDGE_MQTT_OPEN=true lets everybody on this machine in without a credential',
          'It is for trying: leave it out where devices come in.',
        ),
      )
    return findings
  },
}

/** The lines of a BRIDGE_CONFIG_INVALID, each a problem of its own. */
export function problemsOf(error: unknown): string[] {
  if (!(error instanceof BridgeError)) throw error
  const listed = error.message.split('\n').filter((line) => line.startsWith('  - '))
  return listed.length === 0 ? [error.message] : listed.map((line) => line.slice(4))
}
