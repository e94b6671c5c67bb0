import { refusalReason } from '#gateway/admin/registry/refusal.ts'
import { readSecrets, writeSecrets } from '#platform/data-dir.ts'
import { withDatabase } from '../database.ts'
import { keepDevice, newToken } from '../registry.ts'

/**
 * The device and token that every start on this data folder prints; a new token when it was revoked, another device when it was removed.
 */
export async function demoLogin(databaseUrl: string, dataDir: string): Promise<{ device: string; token: string }> {
  return await withDatabase(databaseUrl, async (client) => {
    for (let number = 1; ; number++) {
      const device = number === 1 ? 'demo' : `demo-${number}`
      try {
        const { demoToken: kept } = readSecrets(dataDir)
        if (kept !== undefined && (await keepDevice(client, device, kept))) return { device, token: kept }
        const token = newToken()
        writeSecrets(dataDir, { demoToken: token })
        await keepDevice(client, device, token)
        return { device, token }
      } catch (error) {
        if (refusalReason(error) !== 'conflict' || number === 1000) throw error // removed: its id is not used again
      }
    }
  })
}
