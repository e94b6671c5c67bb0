import { BridgeError } from '#platform/errors.ts'
import { checkSchema } from '#platform/migrate.ts'
import { type Check, fail, ok } from './check.ts'

export const migrations: Check = {
  name: 'tables',
  async run({ database, postgres }) {
    if (database === undefined) return [ok('not looked at: the embedded Postgres does not run')]
    await postgres() // a server that is away is told once, by its own check
    try {
      await checkSchema(database.url)
      return [ok('as this version wants them')]
    } catch (error) {
      if (!(error instanceof BridgeError)) throw error
      if (error.code !== 'BRIDGE_SCHEMA_MISSING') return [fail(error.message)]
      const line = database.embeddedPath === undefined ? 'npx fleetbridge init' : 'npx fleetbridge up'
      return [fail(`${error.details.pending} migration(s) of this version are missing`, undefined, line)]
    }
  },
}
