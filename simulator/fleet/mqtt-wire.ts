import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import type { Answer, Message } from './message.ts'
import type { SimulatedDevice } from './simulated-device.ts'
import type { Wire, WireEvents } from './wire.ts'

export interface MqttPlace {
  /** mqtt://, mqtts://, ws:// or wss:// with host, port and, for WebSocket, path. */
  readonly url: string
  readonly protocolVersion: 4 | 5
  readonly ca?: Buffer | undefined
}

/** QoS 1 messages that a device has out at once: constrained clients have few buffers. */
const window = 20
const connectMs = 20_000

/** One connection of npm `mqtt`, with no store and no reconnect of its own: the fleet decides about both. */
export class MqttWire implements Wire {
  readonly window = window
  readonly oneAtATime = false
  readonly #place: MqttPlace
  readonly #device: SimulatedDevice
  readonly #events: WireEvents
  #client: MqttClient | undefined

  constructor(place: MqttPlace, device: SimulatedDevice, events: WireEvents) {
    this.#place = place
    this.#device = device
    this.#events = events
  }

  open(): Promise<void> {
    const { url, protocolVersion, ca } = this.#place
    const options: IClientOptions = {
      clientId: this.#device.id,
      username: this.#device.id,
      password: this.#device.token,
      protocolVersion,
      clean: true,
      keepalive: 60,
      reconnectPeriod: 0,
      connectTimeout: connectMs,
      queueQoSZero: false,
      resubscribe: false,
      ...(ca !== undefined && { ca }),
    }
    return new Promise((resolve, reject) => {
      const client = mqtt.connect(url, options)
      this.#client = client
      let connected = false
      let reason = 'closed'
      client.on('connect', () => {
        connected = true
        resolve()
      })
      client.on('error', (error: Error & { code?: unknown }) => {
        reason = textOf(error)
      })
      client.on('disconnect', ({ reasonCode }) => {
        reason = `disconnect 0x${(reasonCode ?? 0).toString(16)}`
      })
      client.on('close', () => {
        client.end(true)
        if (connected) this.#events.lost(reason)
        else reject(new Error(reason))
      })
    })
  }

  cut(): void {
    this.#client?.stream.destroy()
    this.#client?.end(true)
  }

  async close(): Promise<void> {
    await this.#client?.endAsync().catch(() => undefined)
  }

  send(messages: readonly Message[]): void {
    const { format } = this.#device.plan
    const properties =
      this.#place.protocolVersion === 5 && format.contentType !== 'application/json'
        ? { contentType: format.contentType }
        : undefined
    for (const message of messages)
      for (let copy = 0; copy < message.copies; copy++)
        this.#client?.publish(
          format.mqttTopic,
          message.payload,
          { qos: message.qos, ...(properties !== undefined && { properties }) },
          (error) => {
            const answer = answerOf(error as (Error & { code?: unknown }) | null | undefined)
            if (answer !== undefined) this.#events.answered(message, answer)
          },
        )
  }
}

/** @returns undefined when the connection ended before the answer */
function answerOf(error: (Error & { code?: unknown }) | null | undefined): Answer | undefined {
  if (error === null || error === undefined) return { kind: 'accepted' }
  const { code } = error
  if (typeof code !== 'number' || code < 0x80) return undefined
  if (code === 0x99) return { kind: 'parked' }
  // Quota exceeded: the message is the device's to send again.
  if (code === 0x97) return { kind: 'again', code: '0x97', waitMs: quotaWaitMs }
  return { kind: 'refused', code: `0x${code.toString(16)}` }
}

const quotaWaitMs = 1000

function textOf(error: Error & { code?: unknown }): string {
  if (typeof error.code === 'string') return error.code
  return typeof error.code === 'number' ? `refused 0x${error.code.toString(16)}` : error.message.slice(0, 60)
}
