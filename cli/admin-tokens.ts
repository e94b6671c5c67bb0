import { Command, Option } from 'commander'
import {
  type AdminRole,
  addAdminToken,
  adminRoles,
  listAdminTokens,
  revokeAdminToken,
} from '#gateway/admin/registry/admin-tokens.ts'
import { expiryOf } from '#gateway/admin/registry/times.ts'
import { print, printJson, table } from './output.ts'
import { byUser } from './registry.ts'
import { withRegistry } from './with-registry.ts'

interface AddFlags {
  readonly role: AdminRole
  readonly expires?: string
  readonly tenant?: string
  readonly json?: true
}

export function createAdminTokensCommand(): Command {
  const tokens = new Command('admin-tokens').description('who may use the admin API')
  tokens
    .command('add')
    .description('add a token for the admin API; it is shown this once')
    .argument('<name>', 'who it is for, as the audit shows it: letters, digits and _ @ . -')
    .addOption(
      new Option(
        '--role <role>',
        'viewer reads; operator also adds devices and credentials, disables, rotates, revokes; admin may all',
      )
        .choices(adminRoles)
        .default('viewer'),
    )
    .option('--expires <when>', 'when it ends: 90d, or a time such as 2030-01-31T12:00:00Z (never when absent)')
    .option('--tenant <name>', 'it reads what is of this tenant, and nothing else; its role is viewer')
    .option('--json', 'print {"id","name","role","token"}')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge admin-tokens add grafana --role viewer --expires 365d')
    .action(async (name: string, { role, expires, tenant, json }: AddFlags) => {
      const until = expires === undefined ? undefined : expiryOf(expires)
      const made = await withRegistry((client) => addAdminToken(client, byUser, { name, role, expires: until, tenant }))
      if (json) await printJson(made)
      else await print(made.token)
    })
  tokens
    .command('list')
    .description('list the tokens of the admin API, never their secrets')
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge admin-tokens list')
    .action(async ({ json }: { json?: true }) => {
      const rows = await withRegistry((client) => listAdminTokens(client))
      if (json) return await printJson(rows)
      await print(
        table(
          ['id', 'name', 'role', 'tenant', 'state', 'created', 'expires'],
          rows.map(({ id, name, role, tenant, live, created, expires, revoked }) => [
            id,
            name,
            role,
            tenant,
            live ? 'live' : revoked !== null ? 'revoked' : 'expired',
            created,
            expires,
          ]),
        ),
      )
    })
  tokens
    .command('revoke')
    .description('end a token of the admin API, within 2 s')
    .argument('<id>', 'its id (admin-tokens list)')
    .option('--json', 'print {"revoked": true or false}')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge admin-tokens revoke 01234567-89ab-cdef-0123-456789abcdef')
    .action(async (id: string, { json }: { json?: true }) => {
      const revoked = await withRegistry((client) => revokeAdminToken(client, byUser, id))
      if (json) await printJson({ revoked })
      else await print(revoked ? 'revoked' : 'revoked already')
    })
  return tokens
}
