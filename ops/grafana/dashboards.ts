import { readdirSync, readFileSync } from 'node:fs'
import { repositoryFile } from '../container-files.ts'

/** What we look at in a dashboard's JSON. */
export interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly templating: { readonly list: readonly Variable[] }
  readonly panels: readonly Panel[]
}

export interface Variable {
  readonly name: string
  readonly query: string
  readonly datasource: DataSourceRef
  readonly multi: boolean
}

export interface Panel {
  readonly id: number
  readonly title: string
  readonly datasource: DataSourceRef
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets: readonly Target[]
}

export interface Target {
  readonly refId: string
  readonly datasource: DataSourceRef
  /** Of Postgres. */
  readonly format?: 'time_series' | 'table'
  readonly rawSql?: string
  /** Of Prometheus. */
  readonly expr?: string
}

export interface DataSourceRef {
  readonly type: string
  readonly uid: string
}

export interface Expansion {
  readonly from: Date
  readonly to: Date
  /** As Grafana writes it: `10m`. */
  readonly interval: string
  readonly variables: ReadonlyMap<string, string | readonly string[]>
}

const folder = repositoryFile('ops/grafana/dashboards/')

export function readDashboards(): readonly Dashboard[] {
  return readdirSync(folder).map((name) => JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as Dashboard)
}

/**
 * What Grafana's data source for a Postgres without TimescaleDB makes of a query.
 * @throws Error for a variable without a value or a macro that we do not know
 */
export function expandSql(sql: string, { from, to, interval, variables }: Expansion): string {
  const expanded = sql
    .replaceAll(/\$\{(\w+):(sqlstring|raw)\}/g, (_, name: string, format: string) => {
      const value = variables.get(name)
      if (value === undefined) throw new Error(`there is no variable ${name}`)
      const values = Array.isArray(value) ? (value as readonly string[]) : [value as string]
      return values.map((text) => (format === 'raw' ? text : `'${text.replaceAll("'", "''")}'`)).join(',')
    })
    .replaceAll('$__interval', interval)
    .replaceAll('$__timeFrom()', `'${from.toISOString()}'`)
    .replaceAll('$__timeTo()', `'${to.toISOString()}'`)
    .replaceAll('$__unixEpochFrom()', String(Math.floor(from.getTime() / 1000)))
    .replaceAll('$__unixEpochTo()', String(Math.floor(to.getTime() / 1000)))
    .replaceAll(/\$__timeFilter\(([\w.]+)\)/g, `$1 BETWEEN '${from.toISOString()}' AND '${to.toISOString()}'`)
    .replaceAll(/\$__timeGroupAlias\(([\w.]+),([^)]+)\)/g, (_, column: string, width: string) => {
      const seconds = secondsOf(width)
      return `floor(extract(epoch from ${column})/${seconds})*${seconds} AS "time"`
    })
  if (expanded.includes('$')) throw new Error(`this is left of the query: ${expanded}`)
  return expanded
}

function secondsOf(interval: string): number {
  const [, count, unit] = /^(\d+)([smhd])$/.exec(interval) ?? []
  return Number(count) * ({ s: 1, m: 60, h: 3600, d: 86_400 }[unit as 's' | 'm' | 'h' | 'd'] ?? Number.NaN)
}
