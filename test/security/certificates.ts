import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/** Paths of PEM files. */
export interface Pair {
  readonly cert: string
  readonly key: string
}

/** A certificate authority in a folder, made with openssl. */
export class Authority implements Pair {
  readonly cert: string
  readonly key: string
  readonly #dir: string

  private constructor(dir: string, name: string) {
    this.#dir = dir
    this.cert = join(dir, `${name}.crt`)
    this.key = join(dir, `${name}.key`)
  }

  static async make(dir: string, name: string): Promise<Authority> {
    const authority = new Authority(dir, name)
    await openssl([
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-subj', `/CN=${name}`, '-keyout', authority.key, '-out', authority.cert],
      ...['-addext', 'basicConstraints=critical,CA:TRUE'],
    ])
    return authority
  }

  /** @param names subject alternative names, such as `DNS:localhost` or `IP:127.0.0.1` */
  async issue(commonName: string, names: readonly string[] = []): Promise<Pair> {
    const base = join(this.#dir, `${commonName}-${Math.random().toString(36).slice(2, 8)}`)
    const pair = { cert: `${base}.crt`, key: `${base}.key` }
    await openssl([
      ...['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-subj', `/CN=${commonName}`, '-keyout', pair.key, '-out', `${base}.csr`],
    ])
    writeFileSync(`${base}.ext`, names.length === 0 ? '\n' : `subjectAltName=${names.join(',')}\n`)
    await openssl([
      ...['x509', '-req', '-in', `${base}.csr`, '-CA', this.cert, '-CAkey', this.key, '-CAcreateserial'],
      ...['-days', '2', '-extfile', `${base}.ext`, '-out', pair.cert],
    ])
    return pair
  }
}

async function openssl(args: readonly string[]): Promise<void> {
  await execute('openssl', args)
}
