import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { freeDiskMb, startDiskGuard } from './free-disk.ts'
import { silentLog } from './log.ts'

it('takes nothing while there is less room than the least, and goes on when there is again', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-disk-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  await using guard = await startDiskGuard(folder, (await freeDiskMb(folder)) - 150, silentLog)
  expect(guard.mayTake()).toBe(true)
  const file = openSync(join(folder, 'filler'), 'w')
  const megabyte = Buffer.alloc(1024 ** 2, 'x')
  for (let written = 0; written < 300; written++) writeSync(file, megabyte)
  closeSync(file)
  await expect.poll(() => guard.mayTake(), { timeout: 15_000 }).toBe(false)
  rmSync(join(folder, 'filler'))
  await expect.poll(() => guard.mayTake(), { timeout: 15_000 }).toBe(true)
})

it('says at the start what to do', async () => {
  await expect(startDiskGuard(tmpdir(), 1e12, silentLog)).rejects.toThrow(
    expect.objectContaining({ code: 'BRIDGE_DISK_FULL', message: expect.stringMatching(/Make room.*BRIDGE_DATA_DIR/) }),
  )
})
