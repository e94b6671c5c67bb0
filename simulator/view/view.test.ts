import { stripVTControlCharacters } from 'node:util'
import { expect, it } from 'vitest'
import type { FleetReport } from '../fleet/fleet-report.ts'
import { fleetReportText } from '../fleet/fleet-report.ts'
import { emptyCounts, type Second } from '../fleet/series.ts'
import { htmlReport } from './html-report.ts'
import { createLiveView } from './live-view.ts'

const second = (at: number): Second => ({
  at,
  due: 10,
  sent: 9,
  accepted: 8,
  errors: 1,
  connected: 5,
  inFlight: 2,
  waiting: 3,
  p50: 1.5,
  p99: 20,
})
const soFar = { counts: { ...emptyCounts(), sent: 90, accepted: 80 }, errors: new Map([['503', 4]]) }
const percentiles = { p50: 1, p90: 2, p99: 3, p999: 4, max: 5 }
const report: FleetReport = {
  run: 'r1',
  scenario: 'factory</script><b>',
  seed: 7,
  devices: 5,
  startedAt: '2026-01-01T00:00:00.000Z',
  durationMs: 10_000,
  rate: { asked: 10, reached: 9 },
  counts: { ...emptyCounts(), due: 100, sent: 90, accepted: 80, resent: 3 },
  waiting: 2,
  errors: { '<img src=x>': 3 },
  ackMs: percentiles,
  self: { processes: 1, cpuUsPerMessage: 50, memoryBytes: 1e8, paceMs: { ...percentiles, p99: 30 } },
  seconds: [second(1), second(2)],
  journals: [],
  audit: {
    run: 'r1',
    devices: 5,
    sent: 90,
    acked: 80,
    rows: 160,
    duplicates: 1,
    dead: 0,
    missing: 1,
    phantom: 0,
    doubled: 0,
    reordered: 0,
    ok: false,
    examples: ['pump-1: message 4 was acknowledged, and nothing of it is there'],
  },
  ok: false,
}

/** What is written to a terminal, or to a file. */
function written(isTTY: boolean, use: (stream: NodeJS.WriteStream) => void): string {
  let text = ''
  use({ isTTY, columns: 80, write: (part: string) => (text += part) } as unknown as NodeJS.WriteStream)
  return text
}

it('draws a block that takes the place of the one before', () => {
  const text = written(true, (stream) => {
    const view = createLiveView(stream, { title: 'factory', durationMs: 10_000, devices: 5 })
    view.second(second(1), soFar)
    view.second(second(5), soFar)
  })
  expect(text).toContain('5 of 10 s')
  expect(text).toContain('9 msg/s of 10 due')
  expect(text).toContain('503 4')
  expect(text.split('\x1b[8A')).toHaveLength(2)
  for (const line of text.split('\n')) expect(stripVTControlCharacters(line).trim().length).toBeLessThan(80)
})

it('writes a line in ten seconds where there is no terminal', () => {
  const text = written(false, (stream) => {
    const view = createLiveView(stream, { title: 'factory', durationMs: 30_000, devices: 5 })
    for (let at = 1; at <= 20; at++) view.second(second(at), soFar)
  })
  expect(text.trim().split('\n')).toHaveLength(2)
  expect(text).toContain('10 of 30 s, 9 of 10 msg/s, 80 acknowledged')
})

it('tells a person what came of it', () => {
  const text = fleetReportText(report)
  expect(text).toMatch(/sent +90 of 100 due, 3 of them again/)
  expect(text).toMatch(/unanswered +2/)
  expect(text).toContain('warning: the simulator was late itself')
  expect(text).toContain('message 4 was acknowledged')
  expect(text).toContain('FAILED')
})

it('makes a page that needs nothing from outside and takes nothing for markup', () => {
  const html = htmlReport(report)
  expect(html).not.toMatch(/(src|href)=["']?https?:/)
  expect(html).not.toContain('<img src=x>')
  expect(html).not.toContain('<b>')
  expect(html).toContain('&#60;img src=x&#62;')
  expect(html).toContain('"p99":20')
  expect(html).toContain('the audit failed')
})
