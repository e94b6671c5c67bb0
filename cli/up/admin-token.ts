import { join } from 'node:path'
import type { OwnToken } from '#gateway/admin/logins.ts'
import { newAdminToken } from '#gateway/admin/registry/tokens.ts'
import type { Config } from '#platform/config-schema.ts'
import { readSecrets, writeSecrets } from '#platform/data-dir.ts'

/** The token of the configuration, or the one that the first start on this data folder made. */
export function adminTokenOf({ token }: Config['admin'], dataDir: string): OwnToken & { readonly where: string } {
  if (token !== undefined) return { name: 'config', token, where: 'BRIDGE_ADMIN_TOKEN' }
  const kept = readSecrets(dataDir).adminToken ?? newAdminToken()
  writeSecrets(dataDir, { adminToken: kept })
  return { name: 'up', token: kept, where: `adminToken in ${join(dataDir, 'secrets.json')}` }
}
