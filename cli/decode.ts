import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { type DecodeCase, type MessageOptions, resultOf } from '#gateway/normalize/decode-case.ts'
import { readTable } from '#gateway/routes/live-routes.ts'
import { BridgeError } from '#platform/errors.ts'
import { runCases } from './decode-cases.ts'
import { print, printJson } from './output.ts'

interface DecodeOptions {
  readonly topic?: string
  readonly path?: string
  readonly contentType?: string
  readonly header: readonly string[]
  readonly clientId?: string
  readonly routes?: string
  readonly cases?: readonly string[]
  readonly json?: true
}

export function createDecodeCommand(): Command {
  return new Command('decode')
    .description('show what the gateway makes of a message, without any server: its readings, or the code of its error')
    .argument('[file]', 'the payload; - or none for standard input')
    .option('--topic <topic>', 'MQTT topic that it is published to')
    .option('--path <path>', 'path of the HTTP request that carries it, with its query')
    .option('--content-type <type>', 'content type of the request, or of an MQTT 5 PUBLISH')
    .option('--header <header>', "another header of the request, 'name: value'; may be repeated", collect, [])
    .option('--client-id <device>', 'device of the credential that sends it')
    .option(
      '--routes <file>',
      'a route table as in fleetbridge.yaml; absent: that of the configuration (not for --cases)',
    )
    .option('--cases <file...>', 'run files of cases instead, in the form of gateway/normalize/cases/*.json')
    .option('--json', 'with --cases: print the outcome as an object')
    .addHelpText(
      'after',
      `
Examples:
  $ echo '{"values":{"t":{"value":21.5,"unit":"C"}}}' | npx fleetbridge decode --topic devices/pump-1/telemetry
  $ npx fleetbridge decode --path /v1/telemetry --content-type application/cbor --client-id pump-1 message.cbor
  $ npx fleetbridge decode --cases gateway/normalize/cases/*.json

Standard output has one line: {"readings":[{device,metric,value,unit,ts}]}, where ts is null for the time of arrival, or {"error":"code"} (docs/formats.md);
standard error says more of an error.`,
    )
    .action(decode)
}

async function decode(file: string | undefined, options: DecodeOptions): Promise<void> {
  if (options.cases !== undefined) {
    // What stands behind the last file is one more.
    const files = file === undefined ? options.cases : [...options.cases, file]
    await decodeCases(files, options.routes, options.json === true)
    return
  }
  const message = messageOf(options)
  const payload = file === undefined || file === '-' ? await standardInput() : contentOf(file)
  const routes = await readTable(process.env, options.routes)
  const { result, message: why } = resultOf(payload, { ...message, routes })
  if (why !== undefined) process.stderr.write(`${why}\n`)
  await printJson(result)
}

function messageOf({ topic, path, contentType, header, clientId }: DecodeOptions): MessageOptions {
  if ((topic === undefined) === (path === undefined))
    throw new BridgeError('BRIDGE_USAGE', 'say where the message comes in: either --topic or --path')
  const headers = new Map(header.map(headerOf))
  return {
    transport: topic === undefined ? 'http' : 'mqtt',
    topic: topic ?? path ?? '',
    contentType: contentType ?? headers.get('content-type'),
    headers: headers.size === 0 ? undefined : headers,
    clientId,
  }
}

function headerOf(text: string): [string, string] {
  const colon = text.indexOf(':')
  if (colon < 1) throw new BridgeError('BRIDGE_USAGE', `--header must be 'name: value', not '${text}'`)
  return [text.slice(0, colon).trim().toLowerCase(), text.slice(colon + 1).trim()]
}

async function decodeCases(files: readonly string[], table: string | undefined, json: boolean): Promise<void> {
  const routes = table === undefined ? undefined : await readTable({}, table)
  const { passed, failures } = runCases(
    files.map((name) => ({ name, cases: casesIn(name) })),
    routes,
  )
  if (json) await printJson({ passed, failed: failures.length, failures })
  else {
    for (const { file, id, difference } of failures) await print(`${file} ${id}: ${difference}`)
    await print(`${passed} passed, ${failures.length} failed`)
  }
  if (failures.length > 0) process.exitCode = 1
}

function casesIn(file: string): readonly DecodeCase[] {
  let cases: unknown
  try {
    cases = JSON.parse(contentOf(file).toString())
  } catch (error) {
    if (error instanceof BridgeError) throw error
    throw new BridgeError('BRIDGE_USAGE', `${file} is not JSON`, { cause: error })
  }
  if (Array.isArray(cases) && cases.every(isCase)) return cases
  throw new BridgeError('BRIDGE_USAGE', `${file} must be an array of cases, each with id, transport and expect`)
}

function isCase(value: unknown): value is DecodeCase {
  if (typeof value !== 'object' || value === null) return false
  const { id, transport, expect } = value as Record<string, unknown>
  if (typeof expect !== 'object' || expect === null) return false
  const isResult = 'error' in expect || ('readings' in expect && Array.isArray(expect.readings))
  return typeof id === 'string' && (transport === 'mqtt' || transport === 'http') && isResult
}

function contentOf(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new BridgeError('BRIDGE_USAGE', `${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

async function standardInput(): Promise<Buffer> {
  if (process.stdin.isTTY) throw new BridgeError('BRIDGE_USAGE', 'a payload is missing: name a file, or pipe one in')
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function collect(value: string, previous: readonly string[]): readonly string[] {
  return [...previous, value]
}
