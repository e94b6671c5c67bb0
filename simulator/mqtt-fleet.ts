import { BridgeError } from '#platform/errors.ts'
import { handleOf } from '#platform/handle.ts'
import { hex, MqttDevice, type MqttDeviceOwner } from './mqtt-device.ts'
import { createPublishMaker, type ProtocolVersion } from './mqtt-frames.ts'
import type { Outbox } from './outbox.ts'
import type { DeviceLogin, Transport } from './transport.ts'

export interface MqttFleetOptions {
  readonly host: string
  readonly port: number
  readonly protocolVersion: ProtocolVersion
  readonly qos: 0 | 1
  readonly logins: readonly DeviceLogin[]
  readonly outbox: Outbox
  readonly random: () => number
  readonly maxInFlight?: number
  readonly keepAliveSeconds?: number
}

/** Sockets that are being opened at the same time: more than a listen backlog holds would be dropped and wait a second each. */
const connectsAtOnce = 100

/** How long goodbyes may take. */
const closeMs = 1000

/** A connection for each device, publishing to `devices/me/telemetry`. */
export function createMqttFleet(options: MqttFleetOptions): Transport {
  const { outbox, qos, logins } = options
  const { tally } = outbox
  let connected = 0
  let lastReason = 'no answer'
  let everConnected = 0
  const seen = new Uint8Array(logins.length)
  let starting: (() => void) | undefined
  let nextToConnect = 0

  const owner: MqttDeviceOwner = {
    host: options.host,
    port: options.port,
    protocolVersion: options.protocolVersion,
    qos,
    keepAliveSeconds: options.keepAliveSeconds ?? 30,
    maxInFlight: options.maxInFlight ?? 1000,
    publishFrame: createPublishMaker('devices/me/telemetry', options.protocolVersion),
    random: options.random,
    take: (device) => outbox.take(device),
    body: (device, number) => outbox.body(device, number),
    acknowledged: (device, number) => outbox.acknowledged(device, number),
    refused: (device, number, reasonCode) => outbox.refused(device, number, `puback ${hex(reasonCode)}`),
    onConnected(device) {
      connected++
      if (seen[device] === 1) tally.reconnects++
      else {
        seen[device] = 1
        everConnected++
        connectNext()
      }
      if (everConnected === logins.length) starting?.()
    },
    onLost(_device, wasConnected, reason) {
      if (wasConnected) connected--
      lastReason = reason
      tally.connectionError(reason)
    },
    onResent(_device, messages) {
      tally.resent += messages
    },
  }
  const devices = logins.map((login, index) => new MqttDevice(owner, index, login))

  function connectNext(): void {
    devices[nextToConnect++]?.connect()
  }

  let ticking: NodeJS.Timeout | undefined

  return {
    protocol: 'mqtt',
    async start(timeoutMs) {
      ticking = setInterval(() => {
        const now = performance.now()
        for (const device of devices) device.tick(now)
      }, 1000)
      const all = new Promise<void>((resolve) => {
        starting = resolve
      })
      let timeout: NodeJS.Timeout | undefined
      const over = new Promise<void>((resolve) => {
        timeout = setTimeout(resolve, timeoutMs)
      })
      for (let count = 0; count < connectsAtOnce; count++) connectNext()
      await Promise.race([all, over])
      clearTimeout(timeout)
      starting = undefined
      if (everConnected === 0)
        throw new BridgeError(
          'BRIDGE_NOT_RUNNING',
          `no device got in at mqtt://${options.host}:${options.port} within ${timeoutMs / 1000} s: ${lastReason}`,
        )
      // Whoever is still outside goes on trying on its own.
      while (nextToConnect < devices.length) connectNext()
    },
    send(device) {
      devices[device]?.flush()
    },
    inFlight() {
      let count = 0
      for (const device of devices) count += device.inFlight
      return count
    },
    connected: () => connected,
    ...handleOf(async () => {
      clearInterval(ticking)
      for (const device of devices) device.close()
      const deadline = performance.now() + closeMs
      while (devices.some(({ open }) => open) && performance.now() < deadline)
        await new Promise((resolve) => setTimeout(resolve, 10))
      for (const device of devices) device.destroy()
    }),
  }
}
