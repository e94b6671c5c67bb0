import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createLog } from '#platform/log.ts'
import { startTlsCertificates } from '#platform/tls-certificates.ts'
import { type Check, type Finding, fail, ok, warn } from './check.ts'
import { problemsOf } from './configuration.ts'
import { expiryOf } from './expiry.ts'

/** Reads the files as a gateway does at its start, and looks at what it does not mind. */
export const tlsFiles: Check = {
  name: 'tls',
  async run({ config: { tls }, now }) {
    const { certFile, keyFile } = tls
    if (certFile === undefined && keyFile === undefined)
      return [ok('off: no BRIDGE_TLS_CERT_FILE (docs/transports.md)')]
    try {
      const started = await startTlsCertificates(tls, { log: createLog('fleetbridge', 'silent') })
      await started?.close()
    } catch (error) {
      return problemsOf(error).map((problem) => fail(problem))
    }
    const certificate = new X509Certificate(readFileSync(certFile as string))
    return [
      expiryOf(`the certificate in ${certFile}`, certificate, now()),
      namesOf(certificate),
      ...openKey(keyFile as string),
    ]
  },
}

/** Clients look at the alternative names alone (RFC 9525 §6.3), so a certificate without any is good for nobody. */
function namesOf({ subjectAltName, subject }: X509Certificate): Finding {
  if (subjectAltName !== undefined) return ok(`it is for ${subjectAltName}: devices must connect by one of these`)
  return warn(
    `the certificate names no host (subject ${subject.replaceAll('\n', ', ')}): clients compare the alternative names alone`,
    'Have it issued anew with the name by which devices connect as subject alternative name.',
  )
}

function openKey(keyFile: string): Finding[] {
  if ((statSync(keyFile).mode & 0o004) === 0) return []
  return [warn(`every user of this machine may read the private key ${keyFile}`, undefined, `chmod o-r ${keyFile}`)]
}
