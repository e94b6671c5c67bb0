import { Value } from 'typebox/value'
import { Config } from '#platform/config-schema.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics, type Metrics } from '#platform/metrics.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { Authenticator, AuthRefusal, Presented } from '../../auth/authenticator.ts'
import { fitsPattern } from '../../auth/device-pattern.ts'
import type { LoginGuard } from '../../auth/login-guard.ts'
import type { Principal } from '../../auth/principal.ts'
import { type MqttSource, type MqttSourceOptions, startMqttSource } from '../mqtt-source.ts'
import { RecordingPipeline } from './recording-pipeline.ts'

export interface TestSource extends AsyncDisposable {
  readonly source: MqttSource
  readonly port: number
  readonly pipeline: RecordingPipeline
  readonly metrics: Metrics
  readonly refused: ReasonCode[]
  /** Changes what the authenticator says of a credential. */
  principalOf: ((principal: Principal) => Principal) | undefined
  count(name: string, labels?: Record<string, string>): Promise<number>
}

/** The MQTT source on a free port, with devices whose token is `t-` and their name; `gw-…` are fleet credentials for `gw-…` and `kid-…`, `op-…` operators. */
export async function startTestSource(
  mqtt: Partial<Config['mqtt']> = {},
  pipeline = new RecordingPipeline(),
  more: Pick<MqttSourceOptions, 'redis' | 'presence'> & { authenticator?: Authenticator; loginGuard?: LoginGuard } = {},
): Promise<TestSource> {
  const defaults = mqttDefaults()
  const metrics = createMetrics('test')
  const refused: ReasonCode[] = []
  const source = await startMqttSource(
    { ...defaults, port: 0, host: '127.0.0.1', ...mqtt },
    {
      pipeline,
      authenticator: new TestAuthenticator((principal) => test.principalOf?.(principal) ?? principal),
      log: silentLog,
      metrics,
      countRefused: (code) => refused.push(code),
      ...more,
    },
  )
  const test: TestSource = {
    source,
    port: source.port,
    pipeline,
    metrics,
    refused,
    principalOf: undefined,
    async count(name, labels = {}) {
      const metric = await metrics.registry.getSingleMetric(name)?.get()
      const found = metric?.values.find(({ labels: own }) =>
        Object.entries(labels).every(([label, value]) => own[label] === value),
      )
      return found?.value ?? Number.NaN
    },
    async [Symbol.asyncDispose]() {
      pipeline.verdict = () => ({ kind: 'stored' })
      const closed = source.close()
      pipeline.settleAll()
      await closed
    },
  }
  return test
}

export function mqttDefaults(): Config['mqtt'] {
  return Value.Default(Config.properties.mqtt, {}) as Config['mqtt']
}

/** `device` or `device@tenant`; tokens are `t-device`, or `t-device@tenant` outside of the default tenant. */
export class TestAuthenticator implements Authenticator {
  readonly #changed: (principal: Principal) => Principal
  readonly #revoked = new Set<string>()
  readonly #listeners = new Set<() => void>()

  /** From now on these devices may not be here. */
  revoke(...devices: string[]): void {
    for (const device of devices) this.#revoked.add(device)
    for (const listener of this.#listeners) listener()
  }

  get listeners(): number {
    return this.#listeners.size
  }

  constructor(changed: (principal: Principal) => Principal = (principal) => principal) {
    this.#changed = changed
  }

  authenticate({ secret: token, username }: Presented): Principal | AuthRefusal {
    if (token === 't-unavailable') return 'unavailable'
    if (token === 't-disabled') return 'disabled'
    if (token?.startsWith('t-') !== true) return 'unknown'
    const [device = '', tenant = 'default'] = token.slice(2).split('@')
    if (this.#revoked.has(device)) return 'disabled'
    if (username !== undefined && username !== device && username !== `${device}@${tenant}`) return 'unknown'
    const fleet = device.startsWith('gw-')
    return this.#changed({
      tenant,
      device,
      fleet,
      credentialId: device,
      operator: device.startsWith('op-'),
      expiresAtMs: Number.POSITIVE_INFINITY,
      allows: (other) => other === device || (fleet && fitsPattern('kid-*', other)),
    })
  }

  isLive({ device }: Principal): boolean {
    return !this.#revoked.has(device)
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  admitDevice(): 'admitted' {
    return 'admitted'
  }
}
