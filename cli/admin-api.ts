import { resolve } from 'node:path'
import type { Config } from '#platform/config-schema.ts'
import { readSecrets } from '#platform/data-dir.ts'
import { BridgeError } from '#platform/errors.ts'
import { reachableHost } from './addresses.ts'
import { findInstance } from './instance.ts'

const answerMs = 10_000

/**
 * Asks the admin API of a running gateway: the one that runs on the data folder, or the one of BRIDGE_ADMIN_HOST and _PORT.
 * @param path below /admin/v1
 * @throws BridgeError BRIDGE_NOT_RUNNING, or BRIDGE_USAGE with what the gateway said
 */
export async function askAdmin({ admin, dataDir }: Config, path: string): Promise<unknown> {
  const instance = findInstance(dataDir)
  const base = instance?.admin ?? `http://${reachableHost(admin.host)}:${admin.port}`
  const token = admin.token ?? (instance === undefined ? undefined : readSecrets(resolve(dataDir)).adminToken)
  if (token === undefined)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `the admin API at ${base} wants a token. Set BRIDGE_ADMIN_TOKEN (npx fleetbridge admin-tokens add makes one), or BRIDGE_DATA_DIR to the folder of a running "up".`,
    )
  const { response, text } = await ask(`${base}/admin/v1${path}`, token)
  if (response.ok) return JSON.parse(text)
  throw new BridgeError('BRIDGE_USAGE', detailOf(text) ?? `the admin API at ${base} answered ${response.status}`)
}

async function ask(url: string, token: string): Promise<{ response: Response; text: string }> {
  try {
    const response = await fetch(url, {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(answerMs),
    })
    return { response, text: await response.text() }
  } catch (error) {
    throw new BridgeError(
      'BRIDGE_NOT_RUNNING',
      `no gateway answers at ${new URL(url).origin}. Start one, or say where its admin API is: BRIDGE_ADMIN_HOST and BRIDGE_ADMIN_PORT.`,
      { cause: error },
    )
  }
}

/** What a problem document says (RFC 9457). */
function detailOf(text: string): string | undefined {
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown }
    return typeof detail === 'string' ? detail : undefined
  } catch {
    return undefined
  }
}
