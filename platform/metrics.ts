import { Counter, Gauge, Registry } from 'prom-client'

/** The metrics of one process. Names start with `fleetbridge_`, in base units; device ids are never labels. */
export interface Metrics {
  readonly registry: Registry
  /** A counter whose series exist from the start, at 0, for each given label set. */
  counter<Label extends string>(
    name: string,
    help: string,
    labels?: readonly Label[],
    initial?: readonly Record<Label, string>[],
  ): Counter<Label>
  /** A counter whose totals are kept elsewhere as plain numbers, and read when it is scraped. */
  totals<Label extends string>(
    name: string,
    help: string,
    labels: readonly Label[],
    read: () => Iterable<readonly [Record<Label, string>, number]>,
  ): void
  /** A gauge that is read when it is scraped. */
  gauge(name: string, help: string, read: () => number): void
  /** A gauge with a label of few values, read when it is scraped. */
  gauges(name: string, help: string, label: string, read: () => Iterable<readonly [string, number]>): void
  /** A gauge that is always 1; its label says which of several holds when it is scraped. */
  state(name: string, help: string, label: string, read: () => string): void
  /** A histogram cheap enough for the message path: one array element is counted up, and the text is made at the scrape. */
  histogram(name: string, help: string, upperBounds: readonly number[]): CheapHistogram
}

export interface CheapHistogram {
  observe(value: number): void
}

export const secondsBounds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10] as const
export const sizeBounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] as const

export function createMetrics(version: string): Metrics {
  const registry = new Registry()
  new Gauge({
    name: 'fleetbridge_build_info',
    help: 'Always 1; the labels say what runs',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version, node: process.versions.node }, 1)
  processMetrics(registry)
  return {
    registry,
    counter(name, help, labels = [], initial = []) {
      const counter = new Counter({ name, help, labelNames: labels, registers: [registry] })
      for (const series of initial) counter.inc(series, 0)
      return counter
    },
    totals(name, help, labels, read) {
      new Counter({
        name,
        help,
        labelNames: labels,
        registers: [registry],
        collect() {
          this.reset()
          for (const [series, total] of read()) this.inc(series, total)
        },
      })
    },
    gauge(name, help, read) {
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(read())
        },
      })
    },
    gauges(name, help, label, read) {
      new Gauge({
        name,
        help,
        labelNames: [label],
        registers: [registry],
        collect() {
          this.reset()
          for (const [value, number] of read()) this.set({ [label]: value }, number)
        },
      })
    },
    state(name, help, label, read) {
      new Gauge({
        name,
        help,
        labelNames: [label],
        registers: [registry],
        collect() {
          this.reset()
          this.set({ [label]: read() }, 1)
        },
      })
    },
    histogram(name, help, upperBounds) {
      return registerHistogram(registry, name, help, upperBounds)
    },
  }
}

function processMetrics(registry: Registry): void {
  new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory size in bytes',
    registers: [registry],
    collect() {
      this.set(process.memoryUsage.rss())
    },
  })
  new Gauge({
    name: 'process_cpu_seconds_total',
    help: 'User and system CPU time spent in seconds',
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage()
      this.set((user + system) / 1e6)
    },
  })
}

/** prom-client's own Histogram costs about a microsecond an observation and an object for its labels. */
function registerHistogram(
  registry: Registry,
  name: string,
  help: string,
  upperBounds: readonly number[],
): CheapHistogram {
  const counts = new Float64Array(upperBounds.length + 1)
  let sum = 0
  const metric = {
    name,
    help,
    type: 'histogram',
    aggregator: 'sum',
    get() {
      let total = 0
      const values: { metricName: string; value: number; labels: Record<string, string | number> }[] = []
      for (let index = 0; index < counts.length; index++) {
        total += counts[index] as number
        values.push({ metricName: `${name}_bucket`, value: total, labels: { le: upperBounds[index] ?? '+Inf' } })
      }
      values.push(
        { metricName: `${name}_sum`, value: sum, labels: {} },
        { metricName: `${name}_count`, value: total, labels: {} },
      )
      return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values })
    },
    reset() {
      counts.fill(0)
      sum = 0
    },
  }
  registry.registerMetric(metric as never)
  return {
    observe(value) {
      let index = 0
      while (index < upperBounds.length && value > (upperBounds[index] as number)) index++
      counts[index] = (counts[index] as number) + 1
      sum += value
    },
  }
}
