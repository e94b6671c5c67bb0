import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { pasteLines } from './paste-lines.ts'

const facts = {
  host: 'localhost',
  mqttPort: 1883,
  httpUrl: 'http://localhost:8080',
  databaseUrl: 'postgres://fleetbridge:pw@127.0.0.1:5433/fleetbridge',
  device: 'demo',
  token: 'fb_t',
  environment: '',
}

it('uses the programs that are on PATH', () => {
  const path = mkdtempSync(join(tmpdir(), 'fleetbridge-path-'))
  onTestFinished(() => rmSync(path, { recursive: true }))
  for (const program of ['mosquitto_pub', 'curl', 'psql']) {
    writeFileSync(join(path, program), '')
    chmodSync(join(path, program), 0o755)
  }
  expect(pasteLines({ ...facts, path }).map((line) => line.split(' ')[0])).toEqual(['mosquitto_pub', 'curl', 'psql'])
})

it('falls back on what npm brought', () => {
  const lines = pasteLines({ ...facts, path: '/nonexistent' })
  expect(lines.map((line) => line.split(' ').slice(0, 3).join(' '))).toEqual(['npx mqtt pub', 'npx fleetbridge sql'])
})

it('names the folder for our own commands when it is not the default one', () => {
  const lines = pasteLines({ ...facts, path: '', environment: "BRIDGE_DATA_DIR='/a b' " })
  expect(lines.at(-1)).toMatch(/^BRIDGE_DATA_DIR='\/a b' npx fleetbridge sql '/)
})
