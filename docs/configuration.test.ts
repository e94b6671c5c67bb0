import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { configurationPage } from './generate-configuration.ts'

it('docs/configuration.md is what the settings say (else: node docs/generate-configuration.ts)', () => {
  expect(readFileSync(new URL('configuration.md', import.meta.url), 'utf8')).toBe(configurationPage())
})
