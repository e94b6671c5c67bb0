import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { inject } from 'vitest'

export type FreshDatabase = { readonly url: string } & AsyncDisposable

/** A new empty database, not migrated, in the tests' Postgres; dropped at the end. */
export function freshDatabase(): Promise<FreshDatabase> {
  return newDatabase('')
}

/** The same with the schema of this version: a copy of one that was migrated once. */
export function migratedDatabase(): Promise<FreshDatabase> {
  return newDatabase(` TEMPLATE ${inject('migratedTemplate')}`)
}

async function newDatabase(from: string): Promise<FreshDatabase> {
  const server = inject('postgresUrl')
  const name = `test_${randomBytes(6).toString('hex')}`
  await execute(server, `CREATE DATABASE ${name}${from}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  return {
    url: url.href,
    async [Symbol.asyncDispose]() {
      await execute(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    },
  }
}

/** A prefix for Kafka topics that no other test uses. */
export function freshTopicPrefix(): string {
  return `test-${randomBytes(6).toString('hex')}`
}

export async function execute(connectionString: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}
