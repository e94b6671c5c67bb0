import { defineConfig } from 'drizzle-kit'

/** For `npx drizzle-kit generate --name what-changes` after a change in schema/tables/; the SQL is then completed by hand (partitions, views). */
export default defineConfig({ dialect: 'postgresql', schema: './schema/tables.ts', out: './schema/migrations' })
