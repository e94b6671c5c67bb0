import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { JournalFile } from '../fleet/journal-file.ts'
import type { Message } from '../fleet/message.ts'
import { readJournals } from './read-journal.ts'

const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-journal-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
let files = 0

const header = { journal: 1, run: 'r1', scenario: 's', seed: 1, tenant: 'default', startedUs: 5 } as const
const devices = [{ device: 3, id: 'pump-1', metrics: ['seq', 'temperature'] }]
const head = [header, ...devices].map((line) => `${JSON.stringify(line)}\n`).join('')

function message(number: number, more: Partial<Message> = {}): Message {
  const rest = { payload: '', qos: 1, delayed: false, copies: 1, sends: 0, pending: 0, settled: false } as const
  return { device: 3, number, dueUs: 0, timeUs: 1000 * number, values: [number, 20.5], ...rest, ...more }
}

function fileOf(text: string): string {
  const path = join(folder, `by-hand-${files++}`)
  writeFileSync(path, text)
  return path
}

it('reads what was written', async () => {
  const path = join(folder, 'written')
  const file = new JournalFile(path, header, devices)
  const first = message(1)
  file.sending(first, '')
  file.sending(message(2, { values: undefined, copies: 2 }), 'abc')
  first.sends = 1
  file.sending(first, '')
  file.accepted(first)
  file.parked(message(2))
  file.refused(message(2), '403 not_allowed')
  file.close()
  const { run, devices: read } = await readJournals([path])
  expect(run).toBe('r1')
  expect(read).toEqual([
    {
      id: 'pump-1',
      tenant: 'default',
      metrics: ['seq', 'temperature'],
      startedUs: 5,
      messages: [
        {
          number: 1,
          timeUs: 1000,
          values: [1, 20.5],
          sha256: undefined,
          copies: 1,
          resent: true,
          accepted: 1,
          parked: 0,
          refused: 0,
        },
        {
          number: 2,
          timeUs: 0,
          values: undefined,
          sha256: 'abc',
          copies: 2,
          resent: false,
          accepted: 0,
          parked: 1,
          refused: 1,
        },
      ],
    },
  ])
})

it('writes over no other journal', () => {
  const path = fileOf(head)
  expect(() => new JournalFile(path, header, devices)).toThrow(/EEXIST/)
})

it('leaves out a last line that a kill has cut off', async () => {
  const { devices: read } = await readJournals([fileOf(`${head}["s",3,1,1000,1,[1,20.5]]\n["s",3,2,20`)])
  expect(read[0]?.messages).toHaveLength(1)
})

it.each([
  ['nothing', '', /line 1/],
  ['another file', 'name: factory\n', /line 1/],
  ['a device that is not there', `${head}["s",9,1,1000,1,[1]]\n`, /line 3/],
  ['an answer to nothing', `${head}["a",3,1]\n`, /line 3/],
  ['a broken line in the middle', `${head}["s",3,\n["a",3,1]\n`, /line 3/],
])('refuses %s', async (_name, text, problem) => {
  await expect(readJournals([fileOf(text)])).rejects.toThrow(problem)
})

it('says that a file is not there', async () => {
  await expect(readJournals([join(folder, 'none')])).rejects.toThrow(/none cannot be read/)
})
