import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import mqtt from 'mqtt'
import pg from 'pg'
import { freePort } from '#test/servers/free-port.ts'
import { accepts, startServerProcess } from '#test/servers/server-process.ts'

/** Whether a program is on PATH, or where the environment names it. */
export function programOf(name: string, variable: string): string | undefined {
  const file = process.env[variable] ?? name
  try {
    execFileSync(file, ['--help'], { stdio: 'ignore' })
    return file
  } catch (error) {
    // mosquitto's own help ends with 3.
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : file
  }
}

/** mosquitto with its defaults, for everybody, in memory. */
export async function startMosquitto(file: string, dir: string) {
  const port = await freePort()
  const config = join(dir, 'mosquitto.conf')
  // Its queue would drop what a subscriber behind it does not take at once.
  writeFileSync(
    config,
    `listener ${port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 1000\n`,
  )
  const server = await startServerProcess({
    name: 'mosquitto',
    file,
    args: ['-c', config],
    logFile: join(dir, 'mosquitto.log'),
    ready: () => accepts(port),
    startMs: 10_000,
  })
  return Object.assign(server, { port })
}

/** Telegraf between mosquitto and Postgres: a row a message, a column a reading. Its acknowledgement says nothing of the row. */
export async function startTelegraf(file: string, dir: string, mqttPort: number, databaseUrl: string) {
  const config = join(dir, 'telegraf.conf')
  writeFileSync(config, telegrafConfig(mqttPort, databaseUrl))
  const server = await startServerProcess({
    name: 'telegraf',
    file,
    args: ['--config', config],
    logFile: join(dir, 'telegraf.log'),
    ready: () => Promise.resolve(true),
    startMs: 20_000,
  })
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 1 })
  pool.on('error', () => {})
  const count = async () => {
    const { rows } = await pool
      .query<{ count: string }>(`SELECT count(*) FROM bench_telegraf`)
      .catch(() => ({ rows: [{ count: '0' }] })) // it makes the table with the first row
    return Number(rows[0]?.count)
  }
  // It has subscribed, and found its database, when a message comes through.
  const probe = await mqtt.connectAsync(`mqtt://127.0.0.1:${mqttPort}`)
  for (let tries = 0; (await count()) === 0; tries++) {
    if (tries > 150) throw new Error(`nothing comes through telegraf; see ${join(dir, 'telegraf.log')}`)
    await probe.publishAsync(
      'devices/me/telemetry',
      `{"ts":${Date.now() * 1000},"values":{"seq":0,"temperature":{"value":0}}}`,
      { qos: 1 },
    )
    await sleep(200)
  }
  await probe.endAsync()
  return Object.assign(server, { count, end: () => pool.end() })
}

function telegrafConfig(mqttPort: number, databaseUrl: string): string {
  return `
[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:${mqttPort}"]
  topics = ["devices/#"]
  qos = 1
  client_id = "telegraf"
  max_undelivered_messages = 100000
  data_format = "json_v2"
  [[inputs.mqtt_consumer.json_v2]]
    measurement_name = "bench_telegraf"
    timestamp_path = "ts"
    timestamp_format = "unix_us"
    [[inputs.mqtt_consumer.json_v2.field]]
      path = "values.seq"
      type = "float"
    [[inputs.mqtt_consumer.json_v2.field]]
      path = "values.temperature.value"
      rename = "temperature"
      type = "float"
[[outputs.postgresql]]
  connection = "${databaseUrl}"
`
}
