import { resolve } from 'node:path'
import { loadConfig } from '#platform/config.ts'
import { readSecrets } from '#platform/data-dir.ts'
import { BridgeError } from '#platform/errors.ts'
import { reachableHost } from './addresses.ts'
import { findInstance } from './instance.ts'

/** The admin API of a running gateway, for what only a gateway can do. Paths are below /admin/v1. */
export interface AdminApi {
  get<Answer>(path: string): Promise<Answer>
  post<Answer>(path: string, body: object): Promise<Answer>
  /** An answer that is no JSON, as it comes; it may take as long as it likes. */
  stream(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>
}

const answerMs = 60_000

/**
 * That of the running instance, else of the address that is given or configured.
 * @param url such as http://gateway-1:8082
 * @throws BridgeError BRIDGE_NOT_RUNNING, or BRIDGE_USAGE without a token; its methods BRIDGE_USAGE with what the gateway said
 */
export function adminApi(url?: string): AdminApi {
  const config = loadConfig(process.env)
  const instance = url === undefined ? findInstance(config.dataDir) : undefined
  const base = url ?? instance?.admin ?? `http://${reachableHost(config.admin.host)}:${config.admin.port}`
  const token = config.admin.token ?? (instance === undefined ? undefined : readSecrets(config.dataDir).adminToken)
  if (token === undefined)
    throw instance === undefined && url === undefined && config.database.url === undefined
      ? new BridgeError(
          'BRIDGE_NOT_RUNNING',
          `no fleetbridge runs on the data folder ${resolve(config.dataDir)}. Start one with "npm start"; ` +
            'or name a gateway in BRIDGE_ADMIN_HOST and BRIDGE_ADMIN_PORT, and its token in BRIDGE_ADMIN_TOKEN.',
        )
      : new BridgeError(
          'BRIDGE_USAGE',
          `the admin API at ${base} wants a token. Set BRIDGE_ADMIN_TOKEN (npx fleetbridge admin-tokens add makes one), or BRIDGE_DATA_DIR to the folder of a running "up".`,
        )
  const asked = async (path: string, body: object | undefined, signal: AbortSignal) => {
    const answer = await fetch(new URL(`/admin/v1${path}`, base), {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal,
    }).catch((error: unknown) => {
      if (signal.aborted) throw error
      throw new BridgeError(
        'BRIDGE_NOT_RUNNING',
        `no gateway answers at ${base}. Start one, or say where its admin API is: BRIDGE_ADMIN_HOST and BRIDGE_ADMIN_PORT.`,
        { cause: error },
      )
    })
    if (answer.ok) return answer
    // A problem document says what was wrong (RFC 9457).
    const content = (await answer.json().catch(() => ({}))) as { detail?: string }
    throw new BridgeError('BRIDGE_USAGE', content.detail ?? `the admin API at ${base} answered ${answer.status}`)
  }
  const ask = async (path: string, body: object | undefined) =>
    (await asked(path, body, AbortSignal.timeout(answerMs))).json().catch(() => ({}))
  return {
    get: async (path) => (await ask(path, undefined)) as never,
    post: async (path, body) => (await ask(path, body)) as never,
    stream: async (path, signal) => (await asked(path, undefined, signal)).body as ReadableStream<Uint8Array>,
  }
}
