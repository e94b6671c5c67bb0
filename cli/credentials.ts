import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { fingerprintOf, fingerprintOfPem } from '#gateway/admin/registry/certificate.ts'
import {
  addCredential,
  type CredentialRow,
  listCredentials,
  type Proof,
  type Revocation,
  revokeCredentials,
} from '#gateway/admin/registry/credentials.ts'
import { rotateToken } from '#gateway/admin/registry/rotate-token.ts'
import { durationMs, expiryOf } from '#gateway/admin/registry/times.ts'
import { BridgeError } from '#platform/errors.ts'
import { whole } from './options.ts'
import { print, printJson, table } from './output.ts'
import { readPassword } from './password-input.ts'
import { byUser } from './registry.ts'
import { withRegistry } from './with-registry.ts'

const expiresHelp = 'when it ends: 90d, 12h, or a time such as 2030-01-31T12:00:00Z (never when absent)'

export function createCredentialsCommand(): Command {
  const credentials = new Command('credentials').description('tokens, passwords and certificates')
  credentials
    .command('add')
    .description('add a credential; a token is shown this once')
    .addOption(
      new Option('--fleet', 'one that speaks for many devices and brings in unknown ones').conflicts([
        'device',
        'operator',
      ]),
    )
    .option('--operator', 'one that only subscribes, and sees its whole tenant')
    .option('--device <id>', 'one more for a device that is there')
    .option('--name <name>', 'with --fleet or --operator: its own device id (a random one when absent)')
    .option('--pattern <glob>', "with --fleet: the devices it may speak for, such as 'site1-*' (any when absent)")
    .addOption(
      new Option('--password', 'a password of your choice: a line on standard input, or asked for').conflicts([
        'certificate',
        'fingerprint',
      ]),
    )
    .addOption(
      new Option('--certificate <file>', 'a client certificate (PEM, it alone)').conflicts(['fingerprint', 'password']),
    )
    .option('--fingerprint <sha256>', 'a client certificate by its SHA-256: openssl x509 -noout -fingerprint -sha256')
    .option('--expires <when>', expiresHelp)
    .option('--tenant <name>', 'whose', 'default')
    .option('--json', 'print {"device","token"}, or {"device","kind","id"} where there is no token')
    .addHelpText(
      'after',
      "\nExamples:\n  $ npx fleetbridge credentials add --fleet --name gw-1 --pattern 'site1-*' --json\n  $ npx fleetbridge credentials add --device pump-1" +
        '\n  $ npx fleetbridge credentials add --device pump-1 --password < password.txt' +
        '\n  $ npx fleetbridge credentials add --device pump-1 --certificate pump-1.pem --expires 1w' +
        '\n  $ npx fleetbridge credentials add --operator --name dashboard',
    )
    .action(add)
  credentials
    .command('rotate')
    .description('add a token with the same rights, and let the old ones end after an overlap')
    .argument('[credential]', 'id of the one token to replace (credentials list)')
    .option('--device <id>', 'replace all tokens of this device')
    .option('--overlap <time>', 'how long the old ones stay good; 0s ends them at once', '24h')
    .option('--expires <when>', `of the new one; ${expiresHelp}`)
    .option('--tenant <name>', 'whose device', 'default')
    .option('--json', 'print {"id","device","token","replaced"}')
    .addHelpText('after', '\nExample:\n  $ TOKEN=$(npx fleetbridge credentials rotate --device pump-1 --overlap 1h)')
    .action(rotate)
  credentials
    .command('revoke')
    .description('end a credential at once, for good; its connections end within 2 s')
    .argument('[credential]', 'its id (credentials list)')
    .option('--device <id>', 'all credentials of this device, or whose certificate it is')
    .option('--fingerprint <sha256>', 'with --device: a certificate of a trusted authority, known here or not')
    .option('--tenant <name>', 'whose device', 'default')
    .option('--json', 'print {"revoked": n}')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge credentials revoke 01234567-89ab-cdef-0123-456789abcdef\n  $ npx fleetbridge credentials revoke --device pump-1',
    )
    .action(revoke)
  credentials
    .command('list')
    .description('list credentials, never their secrets')
    .option('--device <id>', 'only of this device')
    .option('--live', 'only those that are neither revoked nor expired')
    .option('--tenant <name>', 'whose', 'default')
    .option('--limit <n>', 'at most so many', whole(1, 100_000), 1000)
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge credentials list --device pump-1')
    .action(list)
  return credentials
}

interface AddFlags {
  readonly fleet?: true
  readonly operator?: true
  readonly device?: string
  readonly name?: string
  readonly pattern?: string
  readonly password?: true
  readonly certificate?: string
  readonly fingerprint?: string
  readonly expires?: string
  readonly tenant: string
  readonly json?: true
}

async function add(flags: AddFlags): Promise<void> {
  const { fleet, operator, device, name, pattern, tenant, json } = flags
  if (fleet === undefined && operator === undefined && device === undefined)
    throw new BridgeError(
      'BRIDGE_USAGE',
      'say --fleet, or --device with the id of a device that is there, or --operator',
    )
  if (device !== undefined && (name !== undefined || pattern !== undefined))
    throw new BridgeError('BRIDGE_USAGE', '--name and --pattern belong to --fleet')
  const role = fleet ? 'fleet' : operator ? 'operator' : 'device'
  const expires = flags.expires === undefined ? undefined : expiryOf(flags.expires)
  const proof = await proofOf(flags)
  const own = name ?? `${role}-${randomBytes(4).toString('hex')}`
  const made = await withRegistry((client) =>
    addCredential(client, byUser, {
      tenant,
      proof,
      role,
      expires,
      device: device ?? own,
      makesDevice: device === undefined,
      ...(device === undefined && { name: own, pattern }),
    }),
  )
  if (json) await printJson(made.token === undefined ? made : { device: made.device, token: made.token })
  else await print(made.token ?? `${made.device}: ${made.kind} ${made.id}`)
}

async function proofOf({ password, certificate, fingerprint }: AddFlags): Promise<Proof> {
  if (password) return { kind: 'password', password: await readPassword() }
  if (fingerprint !== undefined) return { kind: 'certificate', fingerprint: fingerprintOf(fingerprint) }
  if (certificate !== undefined) return { kind: 'certificate', fingerprint: fingerprintOfPem(readText(certificate)) }
  return { kind: 'token' }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new BridgeError('BRIDGE_USAGE', `${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

interface RotateFlags {
  readonly device?: string
  readonly overlap: string
  readonly expires?: string
  readonly tenant: string
  readonly json?: true
}

async function rotate(id: string | undefined, flags: RotateFlags): Promise<void> {
  const { device, tenant, json } = flags
  const of = id !== undefined ? { id } : { tenant, device: device ?? '' }
  if ((id === undefined) === (device === undefined))
    throw new BridgeError('BRIDGE_USAGE', 'name a token by its id, or its device by --device')
  const expires = flags.expires === undefined ? undefined : expiryOf(flags.expires)
  const overlapMs = durationMs(flags.overlap, '--overlap')
  const made = await withRegistry((client) => rotateToken(client, byUser, { of, overlapMs, expires }))
  if (json) await printJson(made)
  else await print(made.token)
}

interface RevokeFlags {
  readonly device?: string
  readonly fingerprint?: string
  readonly tenant: string
  readonly json?: true
}

async function revoke(id: string | undefined, { device, fingerprint, tenant, json }: RevokeFlags): Promise<void> {
  const what = revocationOf(id, device, fingerprint, tenant)
  const revoked = await withRegistry((client) => revokeCredentials(client, byUser, what))
  if (json) await printJson({ revoked })
  else await print(revoked === 0 ? 'revoked already' : `revoked ${revoked}`)
}

function revocationOf(
  id: string | undefined,
  device: string | undefined,
  fingerprint: string | undefined,
  tenant: string,
): Revocation {
  if (id !== undefined && device === undefined && fingerprint === undefined) return { id }
  if (id === undefined && device !== undefined)
    return { tenant, device, ...(fingerprint !== undefined && { fingerprint: fingerprintOf(fingerprint) }) }
  throw new BridgeError(
    'BRIDGE_USAGE',
    'name a credential by its id, or a device by --device (with --fingerprint or not)',
  )
}

interface ListFlags {
  readonly device?: string
  readonly live?: true
  readonly tenant: string
  readonly limit: number
  readonly json?: true
}

async function list({ json, ...filter }: ListFlags): Promise<void> {
  const rows = await withRegistry((client) => listCredentials(client, filter))
  if (json) await printJson(rows)
  else await print(credentialTable(rows))
}

export function credentialTable(rows: readonly CredentialRow[]): string {
  const names = ['credential', 'device', 'kind', 'role', 'name', 'pattern', 'state', 'created', 'expires', 'last used']
  return table(
    names,
    rows.map(({ id, device, kind, role, name, pattern, live, created, expires, revoked, lastUsed }) => [
      id,
      device,
      kind,
      role,
      name,
      pattern,
      live ? 'live' : revoked !== null ? 'revoked' : 'expired',
      created,
      expires,
      lastUsed,
    ]),
  )
}
