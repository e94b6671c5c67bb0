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
  /** One process computes rollups. */
  rollups: 5,
  /** One process takes away what is past its retention. */
  retention: 6,
  /** One process computes hours of the fleet; written as a number in fleetbridge_fleet_rollup(). */
  fleetRollup: 20,
  /** With an epoch of `rollup_round`: shared by transactions that leave out marks which they made in it, exclusive for who works on it. */
  rollupSpace: 0x666c6274,
  /** One worker looks for lost and silent devices. */
  presence: 8,
  /** With the tenant's number as second half: one transaction adds names to its dictionary. */
  metricSpace: 0x666c6273,
} as const
