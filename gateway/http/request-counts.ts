import type { Metrics } from '#platform/metrics.ts'

/** Requests by route and status. Plain numbers on the way of a request; the scrape copies them into the metric. */
export class RequestCounts {
  readonly #routes = new Map<string, Map<number, { total: number; copied: number }>>()

  /** @param route the pattern, never the path: that has device ids and a token */
  count(route: string, status: number): void {
    let statuses = this.#routes.get(route)
    if (statuses === undefined) {
      statuses = new Map()
      this.#routes.set(route, statuses)
    }
    const series = statuses.get(status)
    if (series === undefined) statuses.set(status, { total: 1, copied: 0 })
    else series.total++
  }

  /** @param inHandBytes read at each scrape */
  register(metrics: Metrics, inHandBytes: () => number): void {
    // Before the counter, so that one scrape copies first and reads then.
    metrics.gauge(
      'fleetbridge_http_in_hand_bytes',
      'Requests in hand: their bodies and what is kept beside each',
      () => {
        for (const [route, statuses] of this.#routes)
          for (const [status, series] of statuses) {
            requests.inc({ route, status: String(status) }, series.total - series.copied)
            series.copied = series.total
          }
        return inHandBytes()
      },
    )
    const requests = metrics.counter('fleetbridge_http_requests_total', 'Requests by route and status', [
      'route',
      'status',
    ])
  }
}
