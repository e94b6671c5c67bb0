import { type Command, Option } from 'commander'
import type { NewToken } from '#gateway/admin/registry/devices.ts'
import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { findInstance } from '../instance.ts'
import { print, printJson } from '../output.ts'
import { connectionOf } from './connection.ts'
import { needsAuthority, type Platform, platforms, snippetFor } from './snippet.ts'

/** What `devices add` takes beside its own options. */
export interface SnippetFlags {
  readonly for?: Platform
  readonly host?: string
  readonly ca?: string
  readonly csv?: true
  readonly json?: true
}

export function withSnippetOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--for <platform>',
        'print a program for one device, or the settings of its firmware, filled in',
      ).choices(platforms),
    )
    .option('--host <host>', "with --for: where devices reach the gateway (this machine's name when absent)")
    .option('--ca <file>', "with --for: PEM of the authority of the gateway's certificate, where devices must be told")
}

/**
 * What prints devices as programs: the program alone on standard output, so that it can go to a file, and the token beside it.
 * Made before the devices are, since a token that was made and not shown is lost.
 * @returns undefined without --for
 * @throws BridgeError BRIDGE_USAGE
 */
export function snippetPrinter(
  { for: platform, host, ca, csv, json }: SnippetFlags,
  count: number,
): ((made: readonly NewToken[]) => Promise<void>) | undefined {
  if (platform === undefined) {
    if (host === undefined && ca === undefined) return undefined
    throw new BridgeError('BRIDGE_USAGE', `--host and --ca belong to --for ${platforms.join('|')}`)
  }
  if (csv) throw new BridgeError('BRIDGE_USAGE', '--for and --csv do not go together; --for and --json do')
  if (count > (json ? 1000 : 1))
    throw new BridgeError('BRIDGE_USAGE', '--for prints the program of one device; with --json those of up to 1000')
  const config = loadConfig(process.env)
  const connection = connectionOf(config, findInstance(config.dataDir), {
    ...(host !== undefined && { host }),
    ...(ca !== undefined && { ca }),
  })
  if (connection.mqttTlsPort !== undefined && connection.ca === undefined && needsAuthority.has(platform))
    throw new BridgeError(
      'BRIDGE_USAGE',
      `${platform} knows no authorities: give the PEM of the one that signed the gateway's certificate to --ca`,
    )
  return async (made) => {
    const shown = made.map((one) => ({ ...one, snippet: snippetFor(platform, { ...connection, ...one }) }))
    if (json) return await printJson(shown)
    for (const { device, token, snippet } of shown) {
      process.stderr.write(`${device} ${token}\n`)
      await print(snippet.trimEnd())
    }
  }
}
