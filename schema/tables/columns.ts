import { bigint, customType, integer, timestamp } from 'drizzle-orm/pg-core'

export const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })
export const timestamptz = (name: string) => timestamp(name, { withTimezone: true })
export const identity = () => integer('id').generatedAlwaysAsIdentity()
export const counter = (name: string) => bigint(name, { mode: 'number' }).notNull().default(0)
