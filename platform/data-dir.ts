import { accessSync, chmodSync, constants, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { BridgeError } from './errors.ts'

/** What later starts must find again. The file is 0600: it opens the database. */
export interface Secrets {
  readonly postgresPassword?: string
  /** Port that the embedded Postgres took, and the one that was configured then. */
  readonly postgresPort?: number
  readonly postgresConfiguredPort?: number
  /** Where the cluster lies, when not in the data folder. */
  readonly postgresPath?: string
  /** Token of the demo device. */
  readonly demoToken?: string
  /** Opens the admin API with the role admin. */
  readonly adminToken?: string
}

/**
 * Makes the data folder. 0711: the user that Postgres runs as passes through to its own folder and sees nothing else.
 * @returns its absolute path
 * @throws BridgeError BRIDGE_CONFIG_INVALID when it cannot be made or belongs to somebody else
 */
export function openDataDir(dataDir: string): string {
  const path = resolve(dataDir)
  try {
    const made = mkdirSync(path, { recursive: true, mode: 0o711 })
    if (made !== undefined) chmodSync(path, 0o711) // the umask may have taken bits; a folder that was there keeps its own
    accessSync(path, constants.W_OK | constants.X_OK)
  } catch (error) {
    throw unusable(path, error)
  }
  return path
}

export function readSecrets(dataDir: string): Secrets {
  const path = join(dataDir, 'secrets.json')
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Secrets
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return {}
    if (code === 'EACCES' || code === 'EPERM') throw unusable(dataDir, error)
    throw new BridgeError(
      'BRIDGE_EMBEDDED_POSTGRES',
      `${path} is damaged (${(error as Error).message}). Move it away: the next start makes a new one and the data stays.`,
      { cause: error },
    )
  }
}

/** Adds to the secrets; whole or not at all, also when the process is killed meanwhile. */
export function writeSecrets(dataDir: string, more: Secrets): void {
  writePrivateFile(join(dataDir, 'secrets.json'), { ...readSecrets(dataDir), ...more })
}

/** Writes JSON that only its owner may read, by rename. */
export function writePrivateFile(path: string, content: object): void {
  const temporary = `${path}.${process.pid}.tmp`
  writeFileSync(temporary, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 })
  renameSync(temporary, path)
}

function unusable(path: string, cause: unknown): BridgeError {
  return new BridgeError(
    'BRIDGE_CONFIG_INVALID',
    `the data folder ${path} cannot be used: ${(cause as Error).message}. Start as the user that owns it, or name another folder in BRIDGE_DATA_DIR.`,
    { cause },
  )
}
