import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Bom {
  readonly bomFormat: string
  readonly metadata: {
    readonly component: { readonly name: string; readonly type: string; readonly 'bom-ref': string }
  }
  readonly components: readonly {
    readonly name: string
    readonly version: string
    readonly 'bom-ref': string
    readonly hashes?: readonly unknown[]
  }[]
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[]
}

interface Lock {
  readonly packages: Readonly<Record<string, { readonly version?: string; readonly dev?: true }>>
}

/**
 * A CycloneDX document of what `npm ci --omit dev` installs from this folder's lock file.
 * Filtered here: `npm sbom --omit dev` leaves out every package that a development dependency uses as well, such as yaml and pg-types.
 */
export function productionBom(folder: string): Bom {
  const arguments_ = ['sbom', '--sbom-format', 'cyclonedx', '--sbom-type', 'application', '--package-lock-only']
  const bom = JSON.parse(execFileSync('npm', arguments_, { cwd: folder, encoding: 'utf8', maxBuffer: 2 ** 26 })) as Bom
  const wanted = installed(JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as Lock)
  const components = bom.components.filter(({ name, version }) => wanted.has(`${name}@${version}`))
  const root = bom.metadata.component
  const refs = new Set([root['bom-ref'], ...components.map((component) => component['bom-ref'])])
  return {
    ...bom,
    // npm names the root after its folder.
    metadata: { ...bom.metadata, component: { ...root, name: packageName(folder) } },
    components,
    dependencies: bom.dependencies
      .filter(({ ref }) => refs.has(ref))
      .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((other) => refs.has(other)) })),
  }
}

/** `name@version` of all that the lock file does not mark as for development only. */
export function installed({ packages }: Lock): Set<string> {
  const found = new Set<string>()
  for (const [path, { version, dev }] of Object.entries(packages))
    if (path !== '' && !dev) found.add(`${path.slice(path.lastIndexOf('node_modules/') + 13)}@${version}`)
  return found
}

function packageName(folder: string): string {
  return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name: string }).name
}

if (import.meta.main) {
  const folder = join(import.meta.dirname, '..')
  writeFileSync(join(folder, 'sbom.cdx.json'), `${JSON.stringify(productionBom(folder), null, 2)}\n`)
}
