import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface PemFiles {
  readonly certFile: string
  readonly keyFile: string
  readonly cert: string
  readonly key: string
}

/** An authority in a folder of its own that issues certificates for tests, by the openssl program. */
export class TestAuthority implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'fleetbridge-tls-'))
  readonly own: PemFiles
  #count = 0

  constructor(name = 'fleetbridge test CA') {
    this.own = this.#make(['-subj', `/CN=${name}`, '-addext', 'keyUsage=critical,keyCertSign,cRLSign'])
  }

  /** @param names of the server, as subject alternative names */
  server(names = 'DNS:localhost,IP:127.0.0.1'): PemFiles {
    return this.#issue(['-subj', '/CN=localhost', '-addext', `subjectAltName=${names}`])
  }

  /** @param names subject alternative names, such as `DNS:pump-1` */
  client(commonName: string, names?: string): PemFiles {
    const more = names === undefined ? [] : ['-addext', `subjectAltName=${names}`]
    return this.#issue(['-subj', `/CN=${commonName}`, '-addext', 'extendedKeyUsage=clientAuth', ...more])
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true })
  }

  #issue(args: readonly string[]): PemFiles {
    const { certFile, keyFile } = this.own
    return this.#make([...args, '-CA', certFile, '-CAkey', keyFile, '-addext', 'basicConstraints=critical,CA:FALSE'])
  }

  #make(args: readonly string[]): PemFiles {
    const base = join(this.dir, String(this.#count++))
    const files = { certFile: `${base}.crt`, keyFile: `${base}.key` }
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', files.keyFile]
    openssl(['req', '-x509', ...key, '-out', files.certFile, '-days', '30', ...args])
    return { ...files, cert: readFileSync(files.certFile, 'utf8'), key: readFileSync(files.keyFile, 'utf8') }
  }
}

function openssl(args: readonly string[]): void {
  try {
    execFileSync('openssl', args, { stdio: 'pipe' })
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: Buffer }
    if (code === 'ENOENT')
      throw new Error('these tests need the openssl program, 3.0 or later: apt-get install openssl', { cause: error })
    throw new Error(`openssl ${args.join(' ')}: ${stderr}`, { cause: error })
  }
}
