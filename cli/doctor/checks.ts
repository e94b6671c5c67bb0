import { acknowledgement } from './acknowledgement.ts'
import type { Check } from './check.ts'
import { clocks } from './clocks.ts'
import { configuration } from './configuration.ts'
import { dataFolder } from './data-dir.ts'
import { databaseActivity } from './database-activity.ts'
import { databaseSize } from './database-size.ts'
import { kafkaBrokers } from './kafka-brokers.ts'
import { topics } from './kafka-topics.ts'
import { unread } from './kafka-unread.ts'
import { loginFiles } from './login-files.ts'
import { migrations } from './migrations.ts'
import { openFiles } from './open-files.ts'
import { partitions } from './partitions.ts'
import { ports } from './ports.ts'
import { postgresServer } from './postgres-server.ts'
import { redis } from './redis.ts'
import { rollups } from './rollups.ts'
import { running } from './running.ts'
import { tlsFiles } from './tls-files.ts'

/** From this machine outwards, in the order in which they are told. */
export const checks: readonly Check[] = [
  configuration,
  running,
  ports,
  openFiles,
  dataFolder,
  tlsFiles,
  loginFiles,
  clocks,
  acknowledgement,
  kafkaBrokers,
  topics,
  unread,
  redis,
  postgresServer,
  migrations,
  partitions,
  rollups,
  databaseSize,
  databaseActivity,
]
