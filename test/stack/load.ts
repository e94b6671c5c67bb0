import type { Report } from '#simulator/report.ts'
import { BridgeProcess } from './process.ts'

export interface LoadOptions {
  readonly protocol: 'mqtt' | 'http'
  /** Of a gateway or the balancer. */
  readonly port: number
  /** How many to register; or a file of device,token lines of some that are. */
  readonly devices: number | string
  /** Messages a second of all devices together, whatever the answers do. */
  readonly rate: number
  readonly seconds: number
}

/** A fleet in a process of its own, whose every acknowledged number is compared with the rows when it has ended. */
export class Load implements AsyncDisposable {
  readonly #process: BridgeProcess

  constructor({ protocol, port, devices, rate, seconds }: LoadOptions, env: NodeJS.ProcessEnv) {
    const fleet = typeof devices === 'string' ? ['--csv', devices] : ['--devices', String(devices)]
    const to = [`--${protocol}`, '--url', `${protocol}://127.0.0.1:${port}`, ...fleet]
    const pace = ['--rate', String(rate), '--duration', `${seconds}s`]
    this.#process = new BridgeProcess(['simulate', ...to, ...pace, '--json'], env)
  }

  /** Its end by itself: what was sent, answered and found. */
  async report(): Promise<Report> {
    await this.#process.exited
    const { output } = this.#process
    const from = output.lastIndexOf('\n{')
    if (from < 0 && !output.startsWith('{')) throw new Error(`the fleet ended without a report:\n${output}`)
    return JSON.parse(output.slice(from + 1)) as Report
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]()
  }
}

/** What devices saw, for people who read a test's output. */
export function whatDevicesSaw(report: Report): string {
  const { protocol, sent, acked, reconnects, resent, refused, refusals, connectionErrors, ackMs } = report
  const longest =
    ackMs === null
      ? ''
      : ` ack p50 ${Math.round(ackMs.p50)} p99 ${Math.round(ackMs.p99)} max ${Math.round(ackMs.max)} ms;`
  return (
    `${protocol}: ${acked} of ${sent} acknowledged;${longest} ${reconnects} reconnects, ${resent} sent again, ` +
    `${refused} refused ${JSON.stringify(refusals)}, connections ${JSON.stringify(connectionErrors)}; ` +
    `audit: ${report.rows} rows, ${report.missing} missing, ${report.doubled} doubled, ${report.misplaced} misplaced`
  )
}
