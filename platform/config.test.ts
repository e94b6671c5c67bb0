import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { changedSettings, loadConfig, settings } from './config.ts'

function file(text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), 'fleetbridge-config-')), 'fleetbridge.yaml')
  writeFileSync(path, text)
  return path
}

describe('configuration', () => {
  it('has working defaults for everything', () => {
    const config = loadConfig({})
    expect(config.mqtt.port).toBe(1883)
    expect(config.limits.device).toBe('1000:1')
    expect(config.kafka.brokers).toBeUndefined()
    expect(config.redis.url).toBeUndefined()
    expect(changedSettings(config)).toEqual({})
  })

  it('takes the environment over the file over the defaults', () => {
    const path = file('mqtt:\n  port: 1884\n  holdMs: 5000\nlimits:\n  tenant: "100:1,2000:60"\n')
    const config = loadConfig({ BRIDGE_CONFIG: path, BRIDGE_MQTT_PORT: '0', KAFKA_BROKERS: 'a:9092, b:9092' })
    expect(config.mqtt).toMatchObject({ port: 0, holdMs: 5000, maxInHandMessages: 100 })
    expect(config.limits.tenant).toBe('100:1,2000:60')
    expect(config.kafka.brokers).toEqual(['a:9092', 'b:9092'])
  })

  it('names every problem at once, with the line in the file', () => {
    const path = file('mqtt:\n  prt: 1\nhttpp:\n  port: 1\nlimits:\n  device: 5\n')
    const problems = () =>
      loadConfig({ BRIDGE_CONFIG: path, BRIDGE_MQTT_OPEN: 'maybe', BRIDGE_NO_SUCH: '1', BRIDGE_HTTP_PORT: '70000' })
    for (const text of [
      'line 2: unknown key "mqtt.prt"',
      'line 3: unknown key "httpp"',
      'BRIDGE_LIMITS_DEVICE',
      'BRIDGE_MQTT_OPEN',
      'BRIDGE_NO_SUCH',
      'BRIDGE_HTTP_PORT',
    ])
      expect(problems).toThrow(text)
  })

  it.each(['mqtt: [1', 'just text', 'mqtt: 5'])('refuses the file %j', (text) => {
    expect(() => loadConfig({ BRIDGE_CONFIG: file(text) })).toThrow(/fleetbridge\.yaml/)
  })

  it('says when a named file is not there', () => {
    expect(() => loadConfig({ BRIDGE_CONFIG: '/nowhere/fleetbridge.yaml' })).toThrow(
      'cannot read /nowhere/fleetbridge.yaml',
    )
  })

  it('never shows a secret', () => {
    const config = loadConfig({ DATABASE_URL: 'postgres://u:hunter2@h/d', REDIS_URL: 'redis://:hunter2@h' })
    expect(JSON.stringify(changedSettings(config))).not.toContain('hunter2')
  })

  it('has one environment name a setting', () => {
    const names = settings.map(({ env }) => env)
    expect(new Set(names).size).toBe(names.length)
    for (const name of [
      'BRIDGE_MQTT_PORT',
      'BRIDGE_OPS_HOST',
      'BRIDGE_POSTGRES_PORT',
      'BRIDGE_DATA_DIR',
      'BRIDGE_RETENTION_READING',
      'BRIDGE_MQTT_ON_LIMIT',
      'BRIDGE_LIMITS_DEVICE_READINGS',
      'DATABASE_URL',
    ])
      expect(names).toContain(name)
  })
})
