import { once } from 'node:events'
import { startKafka } from '#test/servers/kafka.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { startRedis } from '#test/servers/redis.ts'
import { startLocalStack } from './local-stack.ts'

// npm run stack: what docker-compose.yml starts, from programs of this machine; everything goes with Ctrl-C, its data too.
const stopped = Promise.race(['SIGINT', 'SIGTERM', 'SIGHUP'].map((signal) => once(process, signal)))
await using opened = new AsyncDisposableStack()
const say = (text: string) => process.stdout.write(`${text}\n`)

say('starting Kafka, Redis and Postgres …')
const [kafka, redis, postgres] = await Promise.all([
  startKafka().then((server) => opened.use(server)),
  startRedis().then((server) => opened.use(server)),
  startPostgres({ durable: true }).then((server) => opened.use(server)),
])
say('starting two gateways behind HAProxy, and two workers …')
const stack = opened.use(
  await startLocalStack({ kafkaBrokers: kafka.brokers, redisUrl: redis.url, databaseUrl: postgres.url }),
)
const [gateway1, gateway2, worker1, worker2] = stack.opsUrls
say(`
devices    mqtt://127.0.0.1:${stack.mqttPort}  http://127.0.0.1:${stack.httpPort}
gateways   process ${stack.gateways[0]?.pid} ${gateway1}/readyz  process ${stack.gateways[1]?.pid} ${gateway2}/readyz
workers    process ${stack.workers[0]?.pid} ${worker1}/readyz  process ${stack.workers[1]?.pid} ${worker2}/readyz
HAProxy    http://127.0.0.1:${stack.statsPort}/metrics
for the command line:
  export KAFKA_BROKERS=${kafka.brokers} REDIS_URL=${redis.url} DATABASE_URL=${postgres.url}
  npx fleetbridge devices add pump-1

Ctrl-C stops all of it.`)
await stopped
say('stopping …')
