/**
 * The two numbers of every advisory lock of ours: `space` ("flbr") keeps us apart from other programs in the same database,
 * the other names what is locked.
 */
export const advisoryLocks = {
  space: 0x666c6272,
  /** One process migrates. */
  migrate: 1,
  /** One process makes partitions. */
  partitions: 2,
  /** One gateway writes straight to this database. */
  direct: 3,
  /** One process owns the embedded Postgres and may stop it. */
  server: 4,
  /** One worker looks for lost and silent devices. */
  presence: 8,
  /** With the tenant's number as second half: one transaction adds names to its dictionary. */
  metricSpace: 0x666c6273,
} as const
