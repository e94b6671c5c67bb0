import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { beforeAll, expect, it } from 'vitest'
import { parse } from 'yaml'
import { needProgram } from '#test/servers/server-process.ts'
import { readCompose, readText } from '../container-files.ts'

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
  expect(targets.sort()).toEqual([...services.map(([name]) => `${name}:${port}`), 'haproxy:8404'].sort())
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
    await promisify(execFile)('promtool', args, { cwd: folder, timeout: 30_000 })
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    throw new Error(`promtool ${args.join(' ')}:\n${stdout}${stderr}`)
  }
}
