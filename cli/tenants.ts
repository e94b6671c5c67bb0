import { Command } from 'commander'
import { addTenant, listTenants, removeTenant, setTenantRetention } from '#gateway/admin/registry/tenants.ts'
import { print, printJson, table } from './output.ts'
import { byUser } from './registry.ts'
import { withRegistry } from './with-registry.ts'

interface Flags {
  readonly json?: true
}

export function createTenantsCommand(): Command {
  const tenants = new Command('tenants').description('whose devices; nothing of one reaches another')
  tenants
    .command('add')
    .description('add a tenant; adding its first device does it as well')
    .argument('<name>', '1 to 63 of a-z, 0-9 and -')
    .option('--json', 'print {"tenant"}')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge tenants add acme')
    .action(async (tenant: string, { json }: Flags) => {
      await withRegistry((client) => addTenant(client, byUser, tenant))
      if (json) await printJson({ tenant })
      else await print(`added ${tenant}. Its first device: npx fleetbridge devices add --tenant ${tenant} ID`)
    })
  tenants
    .command('list')
    .description('list tenants')
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge tenants list')
    .action(async ({ json }: Flags) => {
      const rows = await withRegistry((client) => listTenants(client))
      if (json) return await printJson(rows)
      await print(
        table(
          ['tenant', 'devices', 'created', 'readings kept'],
          rows.map(({ tenant, devices, created, retentionDays }) => [
            tenant,
            devices,
            created,
            retentionDays === null ? null : `${retentionDays}d`,
          ]),
        ),
      )
    })
  tenants
    .command('set')
    .description('set how long readings of a tenant are kept, where that is less than BRIDGE_RETENTION_READING')
    .argument('<name>', 'its name')
    .requiredOption('--retention <days>', 'whole days such as 30d, or none: as configured')
    .option('--json', 'print {"tenant","retentionDays"}')
    .addHelpText(
      'after',
      '\nOlder readings are deleted once a day; rollups stay. See first: npx fleetbridge retention run --dry-run\n\nExample:\n  $ npx fleetbridge tenants set acme --retention 30d',
    )
    .action(async (tenant: string, { retention, json }: Flags & { readonly retention: string }) => {
      const retentionDays = await withRegistry((client) => setTenantRetention(client, byUser, tenant, retention))
      if (json) await printJson({ tenant, retentionDays })
      else
        await print(
          retentionDays === null
            ? `readings of ${tenant} are kept as configured`
            : `readings of ${tenant} are kept for ${retentionDays} days`,
        )
    })
  tenants
    .command('remove')
    .description('remove a tenant without devices; readings stay until the retention takes them')
    .argument('<name>', 'its name')
    .option('--json', 'print {"tenant"}')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge tenants remove acme')
    .action(async (tenant: string, { json }: Flags) => {
      await withRegistry((client) => removeTenant(client, byUser, tenant))
      if (json) await printJson({ tenant })
      else await print(`removed ${tenant}`)
    })
  return tenants
}
