import Type from 'typebox'
import { contentTypes, type ExportFormat, type ExportQuery, type Exports } from '../exports.ts'
import { Streamed } from '../route.ts'

export const exportTypes = Object.values(contentTypes).map((type) => type.split(';', 1)[0] as string)

export const exportOptions = {
  format: Type.Optional(Type.Enum(['csv', 'ndjson'], { description: 'csv when absent' })),
  limit: Type.Optional(
    Type.String({ pattern: '^[1-9][0-9]{0,8}$', description: 'rows; the answer then ends in order' }),
  ),
}

/** The answer of a route that exports. @throws BridgeError BRIDGE_USAGE when too many are under way */
export async function streamedExport(
  exports: Exports,
  query: ExportQuery,
  { format = 'csv', limit }: { readonly format?: string | undefined; readonly limit?: string | undefined },
): Promise<Streamed> {
  const rows = limit === undefined ? undefined : Number(limit)
  const stream = await exports.open({ ...query, limit: rows }, format as ExportFormat)
  return new Streamed(contentTypes[format as ExportFormat], stream)
}
