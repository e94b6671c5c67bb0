import { accessSync, constants, existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { readSecrets } from '#platform/data-dir.ts'
import { findPostgresBinaries } from '#platform/embedded-postgres-binaries.ts'
import { freeDiskMb } from '#platform/free-disk.ts'
import { type Check, type Finding, fail, ok, warn } from './check.ts'
import { textOf } from './run-checks.ts'

/** Less than this many times the least is worth a word. */
const roomy = 5

/** Where the embedded Postgres lives. With a DATABASE_URL there is next to nothing in the folder. */
export const dataFolder: Check = {
  name: 'data folder',
  async run({ config: { dataDir, database, postgres } }) {
    const path = resolve(dataDir)
    if (database.url !== undefined) return [ok('not needed: DATABASE_URL holds the data')]
    const found = nearest(path)
    const findings: Finding[] = []
    try {
      accessSync(found, constants.W_OK | constants.X_OK)
    } catch (error) {
      return [
        fail(
          `${path} cannot be used: ${textOf(error)}`,
          'Start as the user that owns it, or name another in BRIDGE_DATA_DIR.',
        ),
      ]
    }
    const { postgresPath = join(path, 'postgres') } = found === path ? readSecrets(path) : {}
    findings.push(...clusterOf(postgresPath))
    const free = await freeDiskMb(nearest(postgresPath))
    const least = postgres.minFreeDiskMb
    const seen = `${free} MB are free at ${path}; below ${least} MB nothing is taken any more`
    const advice = 'Make room, move the data with BRIDGE_DATA_DIR, or keep less: BRIDGE_RETENTION_READING.'
    if (free < least) findings.push(fail(seen, advice))
    else if (free < least * roomy) findings.push(warn(seen, advice))
    else findings.push(ok(seen))
    return findings
  },
}

/** Its data is of one major version of Postgres, and only binaries of the same one read it. */
function clusterOf(path: string): Finding[] {
  let binaries: string
  try {
    binaries = findPostgresBinaries().version.split('.')[0] as string
  } catch (error) {
    return [fail(textOf(error))]
  }
  const version = versionOf(path)
  if (version === undefined) return [ok(`no embedded Postgres yet: the first "npm start" makes one (${binaries})`)]
  if (version === binaries) return [ok(`an embedded Postgres ${version} in ${path}`)]
  return [
    fail(
      `the embedded Postgres in ${path} was made by Postgres ${version}, and this version of fleetbridge brings ${binaries}`,
      'Start the fleetbridge that made it, dump its database with pg_dump, and restore that into a new BRIDGE_DATA_DIR.',
    ),
  ]
}

function versionOf(path: string): string | undefined {
  try {
    return readFileSync(join(path, 'PG_VERSION'), 'utf8').trim()
  } catch {
    return undefined // none yet, or not for this user: the server itself then tells its version
  }
}

function nearest(path: string): string {
  let found = path
  while (!existsSync(found) && found !== dirname(found)) found = dirname(found)
  return found
}
