import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { quoted } from '../registry.ts'

export interface PasteOptions {
  readonly host: string
  /** 0 when only TLS is listened for: what a client needs then is in docs/transports.md. */
  readonly mqttPort: number
  readonly httpUrl: string | null
  readonly databaseUrl: string
  readonly device: string
  readonly token: string
  /** What our own commands need in front to find this instance; empty for the default folder. */
  readonly environment: string
  readonly path: string
}

/** Lines that work when they are pasted: for programs that are here, else for those that npm brought. */
export function pasteLines(options: PasteOptions): string[] {
  const { host, mqttPort, httpUrl, databaseUrl, device, token, environment, path } = options
  const has = (program: string) => isOnPath(program, path)
  const login = `-h ${host} -p ${mqttPort} -q 1 -i ${device} -u ${device} -P ${token} -t devices/me/telemetry`
  const lines: string[] = []
  if (mqttPort !== 0)
    lines.push(
      `${has('mosquitto_pub') ? 'mosquitto_pub' : 'npx mqtt pub'} ${login} -m '{"values":{"temperature":21.5}}'`,
    )
  if (has('curl') && httpUrl !== null)
    lines.push(
      `curl -sS -H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json' -d '{"values":{"temperature":21.6}}' ${httpUrl}/v1/telemetry`,
    )
  const query = 'SELECT time, device, metric, value, unit FROM telemetry ORDER BY time DESC LIMIT 10'
  lines.push(has('psql') ? `psql ${quoted(databaseUrl)} -c '${query}'` : `${environment}npx fleetbridge sql '${query}'`)
  return lines
}

function isOnPath(program: string, path: string): boolean {
  return path.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return folder !== ''
    } catch {
      return false
    }
  })
}
