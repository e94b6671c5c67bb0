import { readSecrets, writeSecrets } from '#platform/data-dir.ts'
import { withDatabase } from '../database.ts'
import { keepDevice, newToken } from '../registry.ts'

export const demoDevice = 'demo'

/** The token that every start on this data folder prints; a new one when it was revoked. */
export async function demoToken(databaseUrl: string, dataDir: string): Promise<string> {
  return await withDatabase(databaseUrl, async (client) => {
    const { demoToken: kept } = readSecrets(dataDir)
    if (kept !== undefined && (await keepDevice(client, demoDevice, kept))) return kept
    const token = newToken()
    writeSecrets(dataDir, { demoToken: token })
    await keepDevice(client, demoDevice, token)
    return token
  })
}
