import { expect, it } from 'vitest'
import { createMetrics } from './metrics.ts'

it('a histogram counts upwards through its buckets, and a counter starts at 0', async () => {
  const metrics = createMetrics('1.2.3')
  metrics.counter('fleetbridge_things_total', 'Things', ['kind'], [{ kind: 'a' }])
  metrics.gauge('fleetbridge_level', 'Level', () => 7)
  metrics.state('fleetbridge_mood', 'Mood', 'is', () => 'good')
  const histogram = metrics.histogram('fleetbridge_size', 'Size', [1, 2])
  for (const value of [0.5, 1, 1.5, 9]) histogram.observe(value)
  const text = await metrics.registry.metrics()
  for (const line of [
    'fleetbridge_things_total{kind="a"} 0',
    'fleetbridge_level 7',
    'fleetbridge_mood{is="good"} 1',
    'fleetbridge_size_bucket{le="1"} 2',
    'fleetbridge_size_bucket{le="2"} 3',
    'fleetbridge_size_bucket{le="+Inf"} 4',
    'fleetbridge_size_sum 12',
    'fleetbridge_size_count 4',
  ])
    expect(text).toContain(line)
})
