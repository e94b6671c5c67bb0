import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, it, vi } from 'vitest'
import { parse } from 'yaml'
import { needProgram } from '#test/servers/server-process.ts'
import { readCompose, readText } from '../container-files.ts'
import { readDashboards } from '../grafana/dashboards.ts'

vi.setConfig({ testTimeout: 100_000 }) // promtool evaluates hours of minutes

const folder = new URL('.', import.meta.url)
const read = (name: string) => parse(readFileSync(new URL(name, folder), 'utf8')) as unknown

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly record?: string
      readonly alert?: string
      readonly expr: string
      readonly annotations?: Readonly<Record<string, string>>
    }[]
  }[]
}

const rulesOf = (name: string) => (read(name) as Rules).groups.flatMap(({ rules }) => rules)
const alerts = rulesOf('alert.rules.yml')

beforeAll(() => needProgram('promtool', ['--version'], 'apt-get install -y prometheus'))

it('Prometheus takes the configuration and the rules', async () => {
  await promtool('check', 'config', 'prometheus.yml')
})

it('each alert fires on what it is for, and none on a quiet hour', async () => {
  await promtool('test', 'rules', 'rules.test.yml')
  const tested = JSON.stringify(read('rules.test.yml'))
  for (const { alert } of alerts) expect(tested, `rules.test.yml tests ${alert}`).toContain(`"${alert}"`)
})

it('every alert leads to a section of the runbook, and every section has its alerts', () => {
  const page = readText('docs/runbook.md')
  const anchors = [...page.matchAll(/^## (.+)$/gm)].map(([, title]) => anchorOf(title as string))
  const linked = alerts.map(({ annotations }) => annotations?.runbook_url?.split('#')[1] ?? '')
  expect([...new Set(linked)].sort()).toEqual([...anchors].sort())
  const named = new Set([...page.matchAll(/`(Fleetbridge[A-Za-z]+)`/g)].map(([, name]) => name))
  expect(named).toEqual(new Set(alerts.map(({ alert }) => alert)))
})

it('Prometheus understands the queries of the dashboards', async () => {
  const queries = readDashboards().flatMap(({ panels }) =>
    panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => expr ?? [])),
  )
  expect(queries.length).toBeGreaterThan(20)
  const rules = queries.map((expr, index) => ({
    record: `query_${index}`,
    expr: expr.replaceAll('$__rate_interval', '1m'),
  }))
  const work = await mkdtemp(join(tmpdir(), 'fleetbridge-promtool-'))
  try {
    await writeFile(join(work, 'queries.yml'), JSON.stringify({ groups: [{ name: 'dashboards', rules }] })) // JSON is YAML
    await promtool('check', 'rules', join(work, 'queries.yml'))
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  const recorded = new Set(rulesOf('recording.rules.yml').map(({ record }) => record))
  for (const name of queries.join(' ').match(/fleetbridge:[\w:]+/g) ?? []) expect(recorded).toContain(name)
})

it('what alerts read is recorded', () => {
  const recorded = rulesOf('recording.rules.yml').map(({ record }) => record)
  const used = alerts.flatMap(({ expr }) => expr.match(/fleetbridge:[\w:]+/g) ?? [])
  for (const name of used) expect(recorded).toContain(name)
})

it('scrapes every gateway and worker of compose', () => {
  const { scrape_configs: jobs } = read('prometheus.yml') as {
    scrape_configs: { static_configs: { targets: string[] }[] }[]
  }
  const targets = jobs.flatMap(({ static_configs }) => static_configs.flatMap(({ targets: own }) => own))
  const services = Object.entries(readCompose().services).filter(([, { command }]) =>
    /^(gateway|worker)$/.test(command?.[0] ?? ''),
  )
  const port = /BRIDGE_OPS_PORT=(\d+)/.exec(readText('Dockerfile'))?.[1]
  expect(targets.sort()).toEqual(services.map(([name]) => `${name}:${port}`).sort())
})

/** As GitHub and others make them. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')
}

async function promtool(...args: string[]): Promise<void> {
  try {
    await promisify(execFile)('promtool', args, { cwd: folder, timeout: 90_000 })
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    throw new Error(`promtool ${args.join(' ')}:\n${stdout}${stderr}`)
  }
}
