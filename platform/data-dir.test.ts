import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { openDataDir, readSecrets, writeSecrets } from './data-dir.ts'

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'fleetbridge-data-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)

it('makes a folder that others pass through, and leaves one that was there as it is', () => {
  const parent = folder()
  expect(mode(openDataDir(join(parent, 'a/b')))).toBe('711')
  chmodSync(parent, 0o750)
  openDataDir(parent)
  expect(mode(parent)).toBe('750')
})

it('adds to the secrets, which only their owner reads', () => {
  const dataDir = folder()
  expect(readSecrets(dataDir)).toEqual({})
  writeSecrets(dataDir, { postgresPassword: 'p' })
  writeSecrets(dataDir, { demoToken: 't' })
  expect(readSecrets(dataDir)).toEqual({ postgresPassword: 'p', demoToken: 't' })
  expect(mode(join(dataDir, 'secrets.json'))).toBe('600')
})

it('says what to do with damaged secrets', () => {
  const dataDir = folder()
  writeFileSync(join(dataDir, 'secrets.json'), '{')
  expect(() => readSecrets(dataDir)).toThrow(/is damaged.*Move it away/)
})

it('names the variable when the folder cannot be used', () => {
  const file = join(folder(), 'file')
  writeFileSync(file, '')
  expect(() => openDataDir(file)).toThrow(/BRIDGE_DATA_DIR/)
})
