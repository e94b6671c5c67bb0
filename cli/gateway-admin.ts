import { resolve } from 'node:path'
import { loadConfig } from '#platform/config.ts'
import { readSecrets } from '#platform/data-dir.ts'
import { BridgeError } from '#platform/errors.ts'
import { reachableHost } from './addresses.ts'
import { findInstance } from './instance.ts'

/** The admin API of a running gateway, for what only a gateway can do. */
export interface AdminApi {
  post<Answer>(path: string, body: object): Promise<Answer>
}

/**
 * That of the running instance, else of the address that is given or configured.
 * @param url such as http://gateway-1:8082
 * @throws BridgeError BRIDGE_NOT_RUNNING, BRIDGE_USAGE without a token
 */
export function adminApi(url: string | undefined): AdminApi {
  const config = loadConfig(process.env)
  const instance = url === undefined ? findInstance(config.dataDir) : undefined
  const base = url ?? instance?.admin ?? `http://${reachableHost(config.admin.host)}:${config.admin.port}`
  const token = config.admin.token ?? (instance === undefined ? undefined : readSecrets(config.dataDir).adminToken)
  if (token === undefined)
    throw instance === undefined && url === undefined && config.database.url === undefined
      ? new BridgeError(
          'BRIDGE_NOT_RUNNING',
          `no fleetbridge runs on the data folder ${resolve(config.dataDir)}. Start one with "npm start"; ` +
            'or name a gateway with --admin http://HOST:8082, and its token in BRIDGE_ADMIN_TOKEN.',
        )
      : new BridgeError(
          'BRIDGE_USAGE',
          'set BRIDGE_ADMIN_TOKEN to a token of the role operator (npx fleetbridge admin-tokens add replay --role operator)',
        )
  return {
    async post(path, body) {
      const answer = await fetch(new URL(`/admin/v1${path}`, base), {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }).catch((error: unknown) => {
        throw new BridgeError('BRIDGE_NOT_RUNNING', `no admin API answers at ${base}: name a gateway with --admin`, {
          cause: error,
        })
      })
      const content = (await answer.json().catch(() => ({}))) as { detail?: string }
      if (!answer.ok)
        throw new BridgeError('BRIDGE_USAGE', `${base} answered ${answer.status}: ${content.detail ?? 'nothing more'}`)
      return content as never
    },
  }
}
