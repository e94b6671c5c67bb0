/**
 * The tables as TypeScript sees them. What Drizzle has no words for stands in schema/migrations only: partitions, views, triggers, comments,
 * the default tenant. docs/schema.md explains them to people who query.
 */
export * from './tables/messages.ts'
export * from './tables/presence.ts'
export * from './tables/progress.ts'
export * from './tables/readings.ts'
export * from './tables/registry.ts'
export * from './tables/rollups.ts'
export * from './tables/views.ts'
