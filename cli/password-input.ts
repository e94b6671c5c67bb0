import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { BridgeError } from '#platform/errors.ts'

const maxBytes = 4096

/**
 * A password from standard input, never from the command's words, which every process may see: a line of a pipe, or asked for twice and not
 * shown on a terminal.
 * @throws BridgeError BRIDGE_USAGE when there is none
 */
export async function readPassword(input: NodeJS.ReadStream = process.stdin): Promise<string> {
  const password = input.isTTY ? await askTwice(input) : await onlyLine(input)
  if (password === '') throw new BridgeError('BRIDGE_USAGE', 'a password is missing: one line on standard input')
  return password
}

async function askTwice(input: NodeJS.ReadStream): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  using lines = createInterface({ input, output: silent, terminal: true })
  const ended = new Promise<never>((_, reject) =>
    lines.once('close', () => reject(new BridgeError('BRIDGE_USAGE', 'no password was given'))),
  )
  const ask = async (text: string) => {
    process.stderr.write(text)
    const answer = await Promise.race([lines.question(''), ended])
    process.stderr.write('\n')
    return answer
  }
  lines.once('SIGINT', () => lines.close())
  ended.catch(() => undefined) // closing at the end is no failure
  const first = await ask('Password: ')
  if ((await ask('Once more: ')) !== first) throw new BridgeError('BRIDGE_USAGE', 'the two are not alike')
  return first
}

async function onlyLine(input: NodeJS.ReadStream): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of input as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new BridgeError('BRIDGE_USAGE', 'standard input holds more than a password')
    chunks.push(chunk)
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks))
  } catch (error) {
    throw new BridgeError('BRIDGE_USAGE', 'the password is not UTF-8', { cause: error })
  }
  const line = text.replace(/\r?\n$/, '')
  if (/[\r\n]/.test(line))
    throw new BridgeError('BRIDGE_USAGE', 'a password is one line, and standard input holds several')
  return line
}
