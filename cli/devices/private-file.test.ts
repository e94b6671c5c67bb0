import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { openPrivateFile } from './private-file.ts'

function newPath(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-file-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'tokens.csv')
}

async function write(path: string, ...lines: string[]): Promise<void> {
  await using file = await openPrivateFile(path, 'device,token')
  await file.write(lines)
}

it('makes a file that only its owner reads, also where an empty one lay', async () => {
  const path = newPath()
  await write(path, 'a,1')
  expect(readFileSync(path, 'utf8')).toBe('device,token\na,1\n')
  expect(statSync(path).mode & 0o777).toBe(0o600)
  const empty = newPath()
  writeFileSync(empty, '', { mode: 0o644 })
  await write(empty)
  expect(statSync(empty).mode & 0o777).toBe(0o600)
})

it('goes on with what is there, and never writes over it', async () => {
  const path = newPath()
  writeFileSync(path, 'device,token\na,1\n', { mode: 0o644 })
  await write(path, 'b,2', 'c,3')
  expect(readFileSync(path, 'utf8')).toBe('device,token\na,1\nb,2\nc,3\n')
  expect(statSync(path).mode & 0o777).toBe(0o600)
})

it('leaves another file as it is', async () => {
  const path = newPath()
  writeFileSync(path, 'dear diary\n')
  await expect(write(path, 'a,1')).rejects.toMatchObject({ code: 'BRIDGE_USAGE' })
  expect(readFileSync(path, 'utf8')).toBe('dear diary\n')
  await expect(openPrivateFile('/nowhere/x', 'device,token')).rejects.toMatchObject({ code: 'BRIDGE_USAGE' })
})
