import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { readCompose, repositoryFile } from '../container-files.ts'
import { expandSql, type Panel, readDashboards } from './dashboards.ts'

const dashboards = readDashboards()
const read = (path: string) =>
  parse(readFileSync(repositoryFile(`ops/grafana/provisioning/${path}`), 'utf8')) as unknown

it('data sources are those of compose, and Postgres is one without TimescaleDB, asked by a role that only reads', () => {
  const { datasources } = read('datasources/fleetbridge.yml') as {
    datasources: { uid: string; type: string; url: string; user?: string; jsonData: Record<string, unknown> }[]
  }
  const hosts = datasources.map(({ url }) => url.replace(/^http:\/\//, '').split(':')[0])
  for (const host of hosts) expect(readCompose().services).toHaveProperty(host as string)
  expect(datasources[0]).toMatchObject({
    type: 'postgres',
    user: 'fleetbridge_reader',
    jsonData: { timescaledb: false, postgresVersion: 1500, maxOpenConns: 10 },
  })
  const known = new Map(datasources.map(({ uid, type }) => [uid, type]))
  for (const { panels, templating } of dashboards)
    for (const { datasource } of [...panels, ...panels.flatMap(({ targets }) => targets), ...templating.list])
      expect(known.get(datasource.uid), datasource.uid).toBe(datasource.type)
})

it('compose shows Grafana the files where they say', () => {
  const { providers } = read('dashboards/fleetbridge.yml') as { providers: { options: { path: string } }[] }
  const volumes = readCompose().services.grafana?.volumes ?? []
  expect(volumes).toContain(`./ops/grafana/dashboards:${providers[0]?.options.path}:ro`)
  expect(volumes).toContain('./ops/grafana/provisioning:/etc/grafana/provisioning:ro')
})

it.each(dashboards.map((dashboard) => ({ title: dashboard.title, dashboard })))(
  '$title: ids, places and variables are in order',
  ({ dashboard }) => {
    const { panels, templating } = dashboard
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    for (const [index, panel] of panels.entries())
      for (const other of panels.slice(index + 1))
        expect(overlap(panel, other), `${panel.title}, ${other.title}`).toBe(false)
    const defined = new Set<string | undefined>(templating.list.map(({ name }) => name))
    const texts = [
      ...panels.flatMap(({ targets }) => targets.map(({ rawSql }) => rawSql ?? '')),
      ...templating.list.map(({ query }) => query),
    ]
    for (const text of texts) for (const [, name] of text.matchAll(/\$\{(\w+):/g)) expect(defined, text).toContain(name)
  },
)

it('expands as Grafana does, and leaves nothing behind', () => {
  const expansion = {
    from: new Date('2026-06-01T00:00:00Z'),
    to: new Date('2026-06-02T00:00:00Z'),
    interval: '10m',
    variables: new Map<string, string | string[]>([
      ['metric', ["it's", 'b']],
      ['device', '7'],
    ]),
  }
  const sql = `SELECT $__timeGroupAlias(r.t,$__interval) WHERE $__timeFilter(r.t) AND d = \${device:raw} AND m IN (\${metric:sqlstring})`
  expect(expandSql(sql, expansion)).toBe(
    'SELECT floor(extract(epoch from r.t)/600)*600 AS "time" ' +
      "WHERE r.t BETWEEN '2026-06-01T00:00:00.000Z' AND '2026-06-02T00:00:00.000Z' AND d = 7 AND m IN ('it''s','b')",
  )
  expect(() => expandSql('SELECT $__unixEpochFilter(t)', expansion)).toThrow(/left of the query/)
})

function overlap({ gridPos: a }: Panel, { gridPos: b }: Panel): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
}
