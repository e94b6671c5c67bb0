import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, it, vi } from 'vitest'
import { TestAuthority } from '#platform/testing/certificates.ts'
import { freePort } from '#test/servers/free-port.ts'
import { BridgeProcess } from '#test/stack/process.ts'
import { Stack } from '#test/stack/stack.ts'
import { readText } from './container-files.ts'
import { readDashboards } from './grafana/dashboards.ts'

vi.setConfig({ testTimeout: 120_000 })

it('every metric of rules, dashboards and docs is one that gateway, worker or up shows', async () => {
  using authority = new TestAuthority()
  const { certFile, keyFile } = authority.server()
  const ports = { BRIDGE_MQTT_TLS_PORT: String(await freePort()), BRIDGE_HTTP_TLS_PORT: String(await freePort()) }
  await using stack = await Stack.start({
    kafkaBrokers: inject('kafkaBrokers'),
    redisUrl: inject('redisUrl'),
    env: { ...ports, BRIDGE_TLS_CERT_FILE: certFile, BRIDGE_TLS_KEY_FILE: keyFile },
  })
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetbridge-metrics-'))
  try {
    const opsPort = await freePort()
    await using up = new BridgeProcess(['up'], {
      BRIDGE_DATA_DIR: dataDir,
      BRIDGE_MQTT_PORT: '0',
      BRIDGE_HTTP_PORT: '0',
      BRIDGE_POSTGRES_PORT: '0',
      BRIDGE_OPS_PORT: String(opsPort),
    })
    await up.until('it runs', () => up.output.includes('waiting for the first message'))
    const pages = await Promise.all([stack.gatewayOps, stack.workerOps, `http://127.0.0.1:${opsPort}`].map(shown))
    const known = new Set(pages.flat())
    expect(known).toContain('fleetbridge_messages_total')
    for (const [place, text] of sources())
      for (const [name] of text.matchAll(/\bfleetbridge_[a-z0-9_]+\b(?!\/)/g))
        if (!notMetrics.has(name)) expect(known, `${name} in ${place}`).toContain(name)
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
})

/** Roles and tables that look like metrics. */
const notMetrics = new Set(['fleetbridge_reader', 'fleetbridge_compatibility'])

function sources(): [string, string][] {
  const files = ['recording.rules.yml', 'alert.rules.yml', 'rules.test.yml'].map((name) => `ops/prometheus/${name}`)
  const pages = ['docs/runbook.md', 'docs/operations.md', 'docs/limits.md', 'docs/monitoring.md']
  const queries = readDashboards().map(({ title, panels }): [string, string] => [
    `dashboard ${title}`,
    panels.flatMap(({ targets }) => targets.map(({ expr }) => expr ?? '')).join('\n'),
  ])
  return [...[...files, ...pages].map((path): [string, string] => [path, readText(path)]), ...queries]
}

/** Names with the endings that a histogram adds. */
async function shown(base: string): Promise<string[]> {
  const text = await (await fetch(`${base}/metrics`)).text()
  return [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].flatMap(([, name, type]) =>
    type === 'histogram' ? [`${name}`, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [`${name}`],
  )
}
