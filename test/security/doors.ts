import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import mqtt, { type MqttClient } from 'mqtt'
import type { PemFiles } from '#platform/testing/certificates.ts'

export const transports = ['MQTT 3.1.1', 'MQTT 5', 'WebSocket', 'TLS', 'HTTP'] as const
export type Transport = (typeof transports)[number]

/** Where an instance can be reached. */
export interface Doors {
  readonly mqtt: number
  readonly mqtts: number
  readonly http: number
  readonly https: number
  /** PEM of who issued their certificate. */
  readonly ca: string
}

/** What somebody shows at a door, and what it then sends. */
export interface Shown {
  readonly username?: string | undefined
  readonly password?: string | undefined
  readonly certificate?: PemFiles | undefined
  /** The device it speaks for; absent: itself. */
  readonly device?: string | undefined
  /** Only asks for messages, and sends none. */
  readonly subscribes?: boolean
}

/** `stored`, `subscribed`, or the first word of refusal: `connack 4`, `puback 135`, `closed`, `http 401`. */
export type Outcome = string

const host = '127.0.0.1'
const body = (value: number) => JSON.stringify({ ts: Date.now(), values: { value } })

/** Goes through one door, sends one reading with this value, and says what became of it. A certificate needs the door's TLS side. */
export function goThrough(doors: Doors, transport: Transport, shown: Shown, value: number): Promise<Outcome> {
  return transport === 'HTTP' ? byHttp(doors, shown, value) : byMqtt(doors, transport, shown, value)
}

/** How a door says no: to strangers, and to those it knows. */
export function refusal(transport: Transport, isKnown: boolean): Outcome {
  if (transport === 'HTTP') return 'http 401'
  if (versionOf(transport) === 5) return isKnown ? 'connack 135' : 'connack 134'
  return isKnown ? 'connack 5' : 'connack 4'
}

/** How a door says that this is not the sender's business. */
export function forbidden(transport: Transport): Outcome {
  if (transport === 'HTTP') return 'http 403'
  return versionOf(transport) === 5 ? 'puback 135' : 'closed'
}

export function versionOf(transport: Transport): 4 | 5 {
  return transport === 'MQTT 5' || transport === 'WebSocket' ? 5 : 4
}

export function connectBy(doors: Doors, transport: Transport, shown: Shown): Promise<MqttClient> {
  const secure = transport === 'TLS' || shown.certificate !== undefined
  const web = transport === 'WebSocket'
  const port = web ? (secure ? doors.https : doors.http) : secure ? doors.mqtts : doors.mqtt
  return mqtt.connectAsync({
    protocol: web ? (secure ? 'wss' : 'ws') : secure ? 'mqtts' : 'mqtt',
    host,
    port,
    path: '/mqtt',
    protocolVersion: versionOf(transport),
    clientId: `door-${Math.random().toString(36).slice(2)}`,
    reconnectPeriod: 0,
    connectTimeout: 8000,
    ...(shown.username !== undefined && { username: shown.username }),
    ...(shown.password !== undefined && { password: shown.password }),
    ...(secure && { ca: doors.ca }),
    ...(shown.certificate && {
      cert: shown.certificate.cert,
      key: shown.certificate.key,
    }),
  })
}

async function byMqtt(doors: Doors, transport: Transport, shown: Shown, value: number): Promise<Outcome> {
  let client: MqttClient
  try {
    client = await connectBy(doors, transport, shown)
  } catch (error) {
    const { code } = error as { code?: unknown }
    return typeof code === 'number' ? `connack ${code}` : 'closed'
  }
  const closed = new Promise<Outcome>((resolve) => client.once('close', () => resolve('closed')))
  client.on('error', () => {})
  try {
    return await Promise.race([closed, shown.subscribes ? subscribe(client) : publish(client, shown, value)])
  } finally {
    client.end(true)
  }
}

async function publish(client: MqttClient, { device = 'me' }: Shown, value: number): Promise<Outcome> {
  try {
    await client.publishAsync(`devices/${device}/telemetry`, body(value), { qos: 1 })
    return 'stored'
  } catch (error) {
    const { code } = error as { code?: unknown }
    return typeof code === 'number' ? `puback ${code}` : 'closed'
  }
}

async function subscribe(client: MqttClient): Promise<Outcome> {
  const granted = await client.subscribeAsync('#', { qos: 1 }).catch(() => [])
  return granted[0] !== undefined && granted[0].qos < 3 ? 'subscribed' : 'not subscribed'
}

function byHttp(doors: Doors, shown: Shown, value: number): Promise<Outcome> {
  const secure = shown.certificate !== undefined
  const { username, password, device, certificate } = shown
  const authorization =
    password === undefined
      ? undefined
      : username === undefined
        ? `Bearer ${password}`
        : `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
  const options = {
    host,
    port: secure ? doors.https : doors.http,
    method: 'POST',
    path: device === undefined ? '/v1/telemetry' : `/v1/devices/${encodeURIComponent(device)}/telemetry`,
    headers: { 'content-type': 'application/json', ...(authorization && { authorization }) },
    agent: false as const,
    ...(certificate && {
      ca: doors.ca,
      cert: certificate.cert,
      key: certificate.key,
    }),
  }
  return new Promise((resolve) => {
    const request = (secure ? httpsRequest : httpRequest)(options, (response) => {
      response.resume()
      resolve(response.statusCode === 202 ? 'stored' : `http ${response.statusCode}`)
    })
    request.on('error', () => resolve('closed'))
    request.end(body(value))
  })
}
