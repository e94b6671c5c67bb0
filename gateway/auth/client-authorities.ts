import { hash, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import { watchFiles } from '#platform/watched-files.ts'

type Configured = Config['auth']['clientCas']

/** A CA whose client certificates are devices of one tenant. */
export interface ClientAuthority {
  readonly certificate: X509Certificate
  readonly tenant: string
  /** Where the device's id stands: the subject's common name, or the first alternative name. */
  readonly identity: 'cn' | 'san'
  /** False when its file does not hold it any more. */
  trusted: boolean
}

export interface ClientAuthorities extends Handle {
  /** @param fingerprint SHA-256 of its DER form, base64 */
  find(fingerprint: string): ClientAuthority | undefined
  certificates(): Iterable<X509Certificate>
  /** Looks at the files now. */
  checkFiles(): Promise<void>
}

/** The certificates of all files, one PEM text each, as `tls.createSecureContext({ ca })` takes them. Reads the files anew. */
export async function clientCaPems(config: Configured): Promise<string[]> {
  const found = await Promise.all(config.map(certificatesOf))
  return [...new Set(found.flat().map((certificate) => certificate.toString()))]
}

/**
 * The CAs of `auth.clientCas`, read again when their files change. Only the CA that signed a client's certificate itself counts: with an
 * intermediate CA that one stands in the file, beside the root that OpenSSL wants. A root in the files of several tenants is nobody's.
 * @param onChange after some were taken out, and with them those whom they had let in
 * @throws BridgeError BRIDGE_CONFIG_INVALID when a file cannot be used
 */
export async function startClientAuthorities(
  config: Configured,
  { log, onChange }: { log: Log; onChange: () => void },
): Promise<ClientAuthorities> {
  let authorities = await readAuthorities(config, new Map())
  const watched = await watchFiles(
    config.map(({ file }) => file),
    async () => {
      const before = authorities
      authorities = await readAuthorities(config, before)
      for (const [fingerprint, authority] of before) authority.trusted = authorities.get(fingerprint) === authority
      onChange()
    },
    { log },
  )
  return {
    ...handleOf(async () => watched.close()),
    find: (fingerprint) => authorities.get(fingerprint),
    *certificates() {
      for (const { certificate } of authorities.values()) yield certificate
    },
    checkFiles: () => watched.check(),
  }
}

async function readAuthorities(
  config: Configured,
  before: ReadonlyMap<string, ClientAuthority>,
): Promise<ReadonlyMap<string, ClientAuthority>> {
  const found = new Map<string, ClientAuthority>()
  const shared = new Set<string>()
  for (const [index, entry] of config.entries())
    for (const certificate of await certificatesOf(entry, index)) {
      const fingerprint = hash('sha256', certificate.raw, 'base64')
      const { tenant, identity = 'cn' } = entry
      const other = found.get(fingerprint)
      if (other !== undefined && (other.tenant !== tenant || other.identity !== identity)) shared.add(fingerprint)
      const known = before.get(fingerprint)
      const isKnown = known?.tenant === tenant && known.identity === identity
      found.set(fingerprint, isKnown ? known : { certificate, tenant, identity, trusted: true })
    }
  // Otherwise the order of the list would decide whose devices they are.
  for (const fingerprint of shared) found.delete(fingerprint)
  const tenants = new Set([...found.values()].map(({ tenant }) => tenant))
  for (const [index, { tenant, file }] of config.entries())
    if (!tenants.has(tenant))
      throw new BridgeError(
        'BRIDGE_CONFIG_INVALID',
        `auth.clientCas[${index}]: every certificate in ${file} stands in another tenant's file too. Give the tenant ${tenant} a CA of its own, or an intermediate one.`,
      )
  return found
}

async function certificatesOf({ file }: Configured[number], index: number): Promise<X509Certificate[]> {
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
