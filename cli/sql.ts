import { Command } from 'commander'
import pg from 'pg'
import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { withDatabase } from './database.ts'
import { findDatabase } from './instance.ts'
import { print, printJson, table } from './output.ts'

export function createSqlCommand(): Command {
  return new Command('sql')
    .description('ask the database of the running instance, or DATABASE_URL')
    .argument('[query]', 'SQL; read from standard input when absent')
    .option('--json', 'print the rows as an array of objects')
    .addHelpText(
      'after',
      "\nExamples:\n  $ npx fleetbridge sql 'SELECT time, device, metric, value FROM telemetry ORDER BY time DESC LIMIT 10'\n  $ npx fleetbridge sql --json < query.sql",
    )
    .action(sql)
}

async function sql(query: string | undefined, { json }: { json?: true }): Promise<void> {
  const databaseUrl = findDatabase(loadConfig(process.env))
  const text = query ?? (await standardInput())
  const results = await withDatabase(databaseUrl, async (client) => {
    await client.query("SET TIME ZONE 'UTC'")
    try {
      const answer: unknown = await client.query({ text, rowMode: 'array', types } as pg.QueryArrayConfig)
      return (Array.isArray(answer) ? answer : [answer]) as pg.QueryArrayResult<unknown[]>[]
    } catch (error) {
      throw error instanceof pg.DatabaseError ? refused(error) : error
    }
  })
  if (json) return await printJson(objectsOf(results.findLast(({ fields }) => fields.length > 0)))
  for (const result of results) await print(textOf(result))
}

/** Times with all their microseconds, and numbers that a double holds as numbers; the rest is Postgres' own text. */
const types = {
  getTypeParser: (oid: number) => {
    if ([20, 21, 23, 26, 700, 701].includes(oid))
      return (text: string) => (Number.isSafeInteger(Number(text)) || oid >= 700 ? Number(text) : text)
    if (oid === 16) return (text: string) => text === 't'
    if (oid === 114 || oid === 3802) return (text: string) => JSON.parse(text) as unknown
    return (text: string) => text
  },
}

function textOf({ fields, rows, command, rowCount }: pg.QueryArrayResult<unknown[]>): string {
  if (fields.length === 0) return rowCount === null ? command : `${command} ${rowCount}`
  const names = fields.map(({ name }) => name)
  return `${table(names, rows)}\n(${rows.length} ${rows.length === 1 ? 'row' : 'rows'})`
}

function objectsOf(result: pg.QueryArrayResult<unknown[]> | undefined): Record<string, unknown>[] {
  if (result === undefined) return []
  return result.rows.map((row) => Object.fromEntries(result.fields.map(({ name }, column) => [name, row[column]])))
}

function refused(error: pg.DatabaseError): BridgeError {
  const hint = error.hint === undefined ? '' : ` (${error.hint})`
  return new BridgeError('BRIDGE_USAGE', `Postgres refused the query: ${error.message}${hint}`, { cause: error })
}

async function standardInput(): Promise<string> {
  if (process.stdin.isTTY) throw new BridgeError('BRIDGE_USAGE', "a query is missing: npx fleetbridge sql 'SELECT …'")
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
