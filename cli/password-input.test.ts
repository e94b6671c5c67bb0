import { PassThrough } from 'node:stream'
import { expect, it } from 'vitest'
import { readPassword } from './password-input.ts'

function piped(...chunks: (string | Buffer)[]): NodeJS.ReadStream {
  const stream = new PassThrough()
  for (const chunk of chunks) stream.write(chunk)
  stream.end()
  return stream as unknown as NodeJS.ReadStream
}

it.each([
  ['a line', ['correct horse\n'], 'correct horse'],
  ['no end of line', ['correct ', 'horse'], 'correct horse'],
  ['CRLF', ['correct horse\r\n'], 'correct horse'],
  ['spaces are its own', [' correct horse \n'], ' correct horse '],
  ['cut within a character', [Buffer.from([0xc3]), Buffer.from([0xbc, 0x0a])], 'ü'],
])('%s', async (_name, chunks, password) => {
  expect(await readPassword(piped(...chunks))).toBe(password)
})

it.each([
  ['nothing', [], /missing/],
  ['an empty line', ['\n'], /missing/],
  ['two lines', ['one\ntwo\n'], /several/],
  ['a file', ['x'.repeat(5000)], /more than a password/],
  ['no UTF-8', [Buffer.from([0xff, 0x0a])], /not UTF-8/],
])('refuses %s', async (_name, chunks, message) => {
  await expect(readPassword(piped(...chunks))).rejects.toThrow(message)
})
