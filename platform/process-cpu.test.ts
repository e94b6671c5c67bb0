import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, it } from 'vitest'
import { cpuUsOf, parseStat } from './process-cpu.ts'

it('reads the line of /proc/PID/stat, whatever the process is called', () => {
  const fields = ['S', '7', ...Array.from({ length: 9 }, () => '0'), '100', '20', '3', '4', '20', '0']
  expect(parseStat(`42 (post) gres: (x) 1 2) ${fields.join(' ')}`)).toEqual({ parent: 7, ticks: 127 })
})

it('counts a process with its children, those that ended included', async () => {
  const busy = 'const end = Date.now() + 400; while (Date.now() < end);'
  const child = spawn(process.execPath, [
    '-e',
    `require('node:child_process').spawnSync(process.execPath, ['-e', ${JSON.stringify(busy)}]); ${busy} console.log('done'); setTimeout(() => {}, 20000)`,
  ])
  try {
    await once(child.stdout, 'data')
    const used = cpuUsOf(child.pid as number)
    // Two loops that want 0.4 s each; a busy machine may have given them much less, an empty reading would be 0.
    expect(used).toBeGreaterThan(100_000)
    expect(cpuUsOf(process.pid), 'it is among our own').toBeGreaterThanOrEqual(used)
  } finally {
    child.kill('SIGKILL')
  }
})
