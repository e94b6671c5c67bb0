import type { Authenticator, AuthRefusal, Presented } from '../auth/authenticator.ts'
import type { Principal } from '../auth/principal.ts'
import { faultOfDevice } from '../normalize/device-id.ts'
import { covers } from './topic-filter.ts'

const anonymousCredential = 'anonymous'
/** The tenant that exists from the start. */
const tenant = 'default'

/** What open mode changes (`BRIDGE_MQTT_OPEN`): everybody is let in, and whatever is no telemetry goes from client to client as in any broker. */
export class OpenMode {
  readonly #denied: readonly string[]

  /** @param denied topic filters that stay closed */
  constructor(denied: readonly string[]) {
    this.#denied = denied
  }

  /** @param name a topic name, or a topic filter, whose wildcards then count as levels of their own */
  denies(name: string): boolean {
    return this.#denied.some((filter) => covers(filter, name))
  }

  /** A client without a credential is the device that its client id names, so that `devices/me/…` means something. */
  named(principal: Principal, clientId: string): Principal {
    if (!isAnonymous(principal) || faultOfDevice(clientId) !== undefined) return principal
    return { ...principal, device: clientId }
  }
}

/** Speaks for every device of its tenant, as a fleet credential does. */
const anonymous: Principal = {
  tenant,
  device: anonymousCredential,
  fleet: true,
  operator: false,
  credentialId: anonymousCredential,
  expiresAtMs: Number.POSITIVE_INFINITY,
  allows: () => true,
}

export function isAnonymous({ credentialId }: Principal): boolean {
  return credentialId === anonymousCredential
}

/** Whoever is unknown is let in as nobody; a credential that is known keeps its own tenant and device, and stays out when it is disabled. */
export function openAuthenticator(inner: Authenticator): Authenticator {
  const admitted = (answer: Principal | AuthRefusal) => (answer === 'unknown' ? anonymous : answer)
  return {
    authenticate(presented: Presented) {
      const answer = inner.authenticate(presented)
      return answer instanceof Promise ? answer.then(admitted) : admitted(answer)
    },
    isLive: (principal) => isAnonymous(principal) || inner.isLive(principal),
    onChange: (listener) => inner.onChange(listener),
    admitDevice: (principal, device) => inner.admitDevice(principal, device),
  }
}
