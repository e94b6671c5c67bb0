import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { type DoctorContext, fail, ok, ServerAway, warn } from './check.ts'
import { exitCodeOf, reportText } from './report.ts'
import { runChecks } from './run-checks.ts'

const context = {} as DoctorContext // these checks look at nothing

it('runs side by side, ends a slow one at its limit, and keeps the order', async () => {
  const began = performance.now()
  const reports = await runChecks(
    [
      { name: 'frozen', run: () => new Promise(() => undefined) },
      { name: 'slow', run: () => sleep(100, [ok('at last')]) },
      { name: 'slow too', run: () => sleep(100, [warn('hm')]) },
      {
        name: 'away',
        run: () => Promise.reject(new ServerAway('Kafka', 'b:9092 does not answer', 'Start it.')),
      },
      {
        name: 'broken',
        run: () => {
          throw new Error('a mistake of ours')
        },
      },
    ],
    context,
    1000,
  )
  expect(performance.now() - began).toBeLessThan(2500)
  expect(reports.map(({ name, verdict }) => `${name} ${verdict}`)).toEqual([
    'frozen fail',
    'slow ok',
    'slow too warn',
    'away warn',
    'broken fail',
  ])
  expect(reports[3]?.findings).toEqual([warn('not checked: Kafka does not answer', 'Start it.')])
  expect(reports[4]?.findings[0]?.seen).toContain('a mistake of ours')
})

it('a line a finding with its mark, what to do below it, and no control character of a server', () => {
  const stream = new PassThrough() as unknown as NodeJS.WriteStream // no terminal, so no colours
  const text = reportText(
    [
      { name: 'one', verdict: 'ok', findings: [ok('fine')] },
      {
        name: 'three',
        verdict: 'fail',
        findings: [warn('so\x1b[31m\nso', 'Look.'), fail('bad', 'Mend it:', 'mend --it')],
      },
    ],
    stream,
  )
  expect(text.split('\n')).toEqual([
    '✓ one    fine',
    '! three  so?[31m so',
    '         Look.',
    '✗ three  bad',
    '         Mend it:',
    '         $ mend --it',
    '',
    '1 ok, 1 to look at, 1 to mend',
  ])
})

it('ends with 0, 1 or 2', () => {
  expect([exitCodeOf('ok'), exitCodeOf('warn'), exitCodeOf('fail')]).toEqual([0, 1, 2])
})
