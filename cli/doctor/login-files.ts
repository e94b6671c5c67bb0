import { startClientAuthorities } from '#gateway/auth/client-authorities.ts'
import { readJwtKeys } from '#gateway/auth/jwt-keys.ts'
import type { Config } from '#platform/config-schema.ts'
import { createLog } from '#platform/log.ts'
import { type Check, type Finding, fail, ok } from './check.ts'
import { problemsOf } from './configuration.ts'
import { expiryOf } from './expiry.ts'
import { textOf } from './run-checks.ts'

/** Authorities of client certificates and keys of JSON Web Tokens, read as a gateway reads them at its start. */
export const loginFiles: Check = {
  name: 'login files',
  async run({ config: { auth, tls }, now }) {
    const findings = [...(await authorities(auth.clientCas, now())), ...(await Promise.all(auth.jwt.map(jwtKeys)))]
    if (auth.clientCas.length > 0 && tls.certFile === undefined)
      findings.push(
        fail(
          'auth.clientCas needs TLS: client certificates are shown in its handshake',
          'Set BRIDGE_TLS_CERT_FILE and BRIDGE_TLS_KEY_FILE.',
        ),
      )
    return findings.length === 0 ? [ok('neither auth.clientCas nor auth.jwt is set')] : findings
  },
}

async function authorities(config: Config['auth']['clientCas'], now: number): Promise<Finding[]> {
  if (config.length === 0) return []
  try {
    const log = createLog('fleetbridge', 'silent')
    await using found = await startClientAuthorities(config, { log, onChange: () => undefined })
    return [...found.certificates()].map((certificate) =>
      expiryOf(`the client authority ${certificate.subject.replaceAll('\n', ', ')}`, certificate, now),
    )
  } catch (error) {
    return problemsOf(error).map((problem) => fail(problem))
  }
}

async function jwtKeys(
  { issuer, keysFile, algorithms }: Config['auth']['jwt'][number],
  index: number,
): Promise<Finding> {
  try {
    const keys = await readJwtKeys(keysFile, algorithms as string[])
    return ok(`${keys.length} key(s) of ${issuer} in ${keysFile}`)
  } catch (error) {
    return fail(
      `auth.jwt[${index}].keysFile cannot be used: ${textOf(error)}`,
      'Mend the file: docs/credentials.md says what it holds.',
    )
  }
}
