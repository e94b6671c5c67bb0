import type { Config } from './config-schema.ts'
import { BridgeError } from './errors.ts'

/**
 * What no single setting shows: that nothing would listen, and that somebody would go on the network with the secrets of a sample file.
 * To be called before a gateway opens anything.
 * @throws {BridgeError} BRIDGE_CONFIG_INVALID that names every such setting
 */
export function checkStart(config: Config): void {
  refuse([...listenerProblems(config), ...sampleSecrets(config)])
}

/**
 * The same for a worker or `init`, which open nothing to devices but go to a database.
 * @throws {BridgeError} BRIDGE_CONFIG_INVALID
 */
export function checkDatabaseSecret({ database }: Pick<Config, 'database'>): void {
  if (!hasSamplePassword(database.url)) return
  refuse([`the password in DATABASE_URL is a sample that everybody knows. ${chooseOne}`])
}

const chooseOne = 'Choose one of your own: openssl rand -hex 24'

function refuse(problems: readonly string[]): void {
  if (problems.length === 0) return
  const list = problems.map((problem) => `  - ${problem}`).join('\n')
  throw new BridgeError(
    'BRIDGE_CONFIG_INVALID',
    `the configuration cannot be started:\n${list}\nSee docs/configuration.md.`,
  )
}

function listenerProblems({ mqtt, http, tls }: Config): string[] {
  if (tls.certFile !== undefined || mqtt.plain || http.plain) return []
  return [
    'BRIDGE_MQTT_PLAIN and BRIDGE_HTTP_PLAIN are false, and there is no certificate: nothing would listen. Set BRIDGE_TLS_CERT_FILE and BRIDGE_TLS_KEY_FILE',
  ]
}

function sampleSecrets(config: Config): string[] {
  const exposed = [config.mqtt.host, config.http.host, config.admin.host].find((host) => !isLoopback(host))
  if (exposed === undefined) return []
  const found: string[] = []
  if (config.admin.token !== undefined && isSample(config.admin.token)) found.push('BRIDGE_ADMIN_TOKEN')
  if (hasSamplePassword(config.database.url)) found.push('the password in DATABASE_URL')
  if (hasSamplePassword(config.redis.url)) found.push('the password in REDIS_URL')
  return found.map(
    (name) => `${name} is a sample that everybody knows, and ${exposed} is reachable from other machines. ${chooseOne}`,
  )
}

/** Values that sample files carry, ours and those that people copy. */
function isSample(secret: string): boolean {
  return (
    /^(change|replace)[-_ ]?(me|this)|^your[-_ ]|^(example|sample|placeholder)([-_ ]|$)/i.test(secret) ||
    /^(.)\1*$/.test(secret) ||
    /^(secret|password|passw0rd|admin|token)([-_ ]?\d*|[-_ ].*)$/i.test(secret)
  )
}

/**
 * A server on this machine may keep the password of its package; one that is reached over the network may not. What says itself that it is to be
 * changed is refused everywhere.
 */
function hasSamplePassword(url: string | undefined): boolean {
  const { password, username, hostname } = parsed(url)
  if (password === '') return false
  if (/^(change|replace)[-_ ]?(me|this)/i.test(password)) return true
  return !isLoopback(hostname) && (isSample(password) || password === username || /^(postgres|redis)$/i.test(password))
}

/** A URL that is none has its own error where it is used. */
function parsed(url: string | undefined): { password: string; username: string; hostname: string } {
  const nothing = { password: '', username: '', hostname: '' }
  if (url === undefined) return nothing
  try {
    const { password, username, hostname } = new URL(url)
    return { password: decodeURIComponent(password), username: decodeURIComponent(username), hostname }
  } catch {
    return nothing
  }
}

export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase()
  return bare === 'localhost' || bare === '::1' || /^(::ffff:)?127\.\d+\.\d+\.\d+$/.test(bare)
}
