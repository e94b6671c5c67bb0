import type { Handle } from '#platform/handle.ts'

/** Where one simulated device signs in. */
export interface DeviceLogin {
  readonly device: string
  readonly token: string
}

/** How a fleet sends: MQTT with a connection a device, or HTTP over some shared ones. Closing drops what is unanswered. */
export interface Transport extends Handle {
  readonly protocol: 'mqtt' | 'http'
  /**
   * Signs the fleet in. Resolves when every device is in, or some are and the time is over.
   * @throws BridgeError BRIDGE_NOT_RUNNING when none got in; its message says what the other side answered
   */
  start(timeoutMs: number): Promise<void>
  /** Something of this device is due: send what fits now, the rest when answers make room. */
  send(device: number): void
  /** Messages that were sent and are not answered. */
  inFlight(): number
  /** Devices that are signed in at the moment (HTTP: all). */
  connected(): number
}
