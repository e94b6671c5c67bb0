import { hash, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import { watchFiles } from './watched-files.ts'

type AuthorityConfig = Config['auth']['clientCas'][number]

/** A CA whose client certificates are devices of one tenant. */
export interface ClientAuthority {
  readonly tenant: string
  /** Where the device's id stands: the subject's common name, or the first alternative name. */
  readonly identity: 'cn' | 'san'
  /** False when its file does not hold it any more. */
  trusted: boolean
}

export interface ClientAuthorities extends Handle {
  /** @param fingerprint SHA-256 of its DER form, base64 */
  find(fingerprint: string): ClientAuthority | undefined
  /** Looks at the files now. */
  checkFiles(): Promise<void>
}

/** The certificates of all files, one PEM text each, as `tls.createSecureContext({ ca })` takes them. Reads the files anew. */
export async function clientCaPems(config: Config['auth']['clientCas']): Promise<string[]> {
  const found = await Promise.all(config.map(certificatesOf))
  return [...new Set(found.flat().map((certificate) => certificate.toString()))]
}

/**
 * The CAs of `auth.clientCas`, read again when their files change.
 * @param onChange after some were taken out, and with them those whom they had let in
 * @throws BridgeError BRIDGE_CONFIG_INVALID when a file cannot be used, or one CA stands for two tenants
 */
export async function startClientAuthorities(
  config: Config['auth']['clientCas'],
  { log, onChange }: { log: Log; onChange: () => void },
): Promise<ClientAuthorities> {
  let authorities = await readAuthorities(config, new Map())
  const watched = await watchFiles(
    config.map(({ file }) => file),
    async () => {
      const before = authorities
      authorities = await readAuthorities(config, before)
      for (const [fingerprint, authority] of before) authority.trusted = authorities.has(fingerprint)
      onChange()
    },
    log,
  )
  return {
    ...handleOf(async () => watched.close()),
    find: (fingerprint) => authorities.get(fingerprint),
    checkFiles: () => watched.check(),
  }
}

async function readAuthorities(
  config: Config['auth']['clientCas'],
  before: ReadonlyMap<string, ClientAuthority>,
): Promise<ReadonlyMap<string, ClientAuthority>> {
  const found = new Map<string, ClientAuthority>()
  for (const [index, entry] of config.entries())
    for (const { raw } of await certificatesOf(entry, index)) {
      const fingerprint = hash('sha256', raw, 'base64')
      const { tenant, identity = 'cn' } = entry
      const other = found.get(fingerprint)
      // Otherwise the order of the list would decide whose devices they are.
      if (other !== undefined && (other.tenant !== tenant || other.identity !== identity))
        throw new BridgeError(
          'BRIDGE_CONFIG_INVALID',
          `auth.clientCas[${index}]: ${entry.file} holds a certificate that stands for the tenant ${other.tenant} (${other.identity}) already. Give each tenant a CA of its own, without a common root in the file.`,
        )
      const known = before.get(fingerprint)
      found.set(
        fingerprint,
        known?.tenant === tenant && known.identity === identity ? known : { tenant, identity, trusted: true },
      )
    }
  return found
}

async function certificatesOf({ file }: AuthorityConfig, index: number): Promise<X509Certificate[]> {
  try {
    const pem = await readFile(file, 'utf8')
    const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
    if (blocks.length === 0) throw new Error(`${file} holds no PEM certificate`)
    return blocks.map((block) => new X509Certificate(block))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new BridgeError('BRIDGE_CONFIG_INVALID', `auth.clientCas[${index}].file cannot be used: ${reason}`, { cause })
  }
}
