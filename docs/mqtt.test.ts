import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { closeReasons } from '#gateway/mqtt/answers.ts'
import { connectResults } from '#gateway/mqtt/connect.ts'

const text = readFileSync(new URL('./mqtt.md', import.meta.url), 'utf8')

it.each([
  ['`result` of a CONNECT', connectResults],
  ['`reason` of a close', closeReasons],
])('mqtt.md lists every %s, and no other', (heading, names) => {
  const paragraph = text.slice(text.indexOf(heading)).split('\n\n')[0] ?? ''
  const listed = [...paragraph.slice(heading.length).matchAll(/`(\w+)`/g)].map(([, name]) => name)
  expect(listed.toSorted()).toEqual([...names].toSorted())
})
