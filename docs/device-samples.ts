import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type CaseResult, inOrder, type Result, resultOf } from '#gateway/normalize/decode-case.ts'

/**
 * Samples on the pages of docs/devices: between the marks stand the payload, written by hand, and a table of what arrives, made by the code that the
 * gateway runs. `<!-- sample mqtt TOPIC client-id=X content-type=Y encoding=base64, by node docs/device-samples.ts -->`; `http PATH` likewise.
 */
const block =
  /(<!-- sample (mqtt|http) (\S+)((?: [a-z-]+=\S+)*), by node docs\/device-samples\.ts -->\n```\w*\n)([\s\S]*?)(\n```\n)[\s\S]*?(<!-- end -->)/g

export interface Sample {
  readonly topic: string
  readonly result: Result
}

const folder = new URL('devices/', import.meta.url)

export const samplePages = readdirSync(folder)
  .filter((name) => name.endsWith('.md'))
  .map((name) => new URL(name, folder))

/** A page with what its samples become now. */
export function samplePage(page: string): { readonly text: string; readonly samples: readonly Sample[] } {
  const samples: Sample[] = []
  const text = page.replace(
    block,
    (
      _,
      head: string,
      transport: 'mqtt' | 'http',
      topic: string,
      words: string,
      payload: string,
      tail: string,
      end: string,
    ) => {
      const options = new Map(words.split(' ').map((word) => [word.split('=')[0], word.slice(word.indexOf('=') + 1)]))
      const result = resultOf(Buffer.from(payload, options.get('encoding') === 'base64' ? 'base64' : 'utf8'), {
        transport,
        topic,
        contentType: options.get('content-type'),
        clientId: options.get('client-id'),
      })
      samples.push({ topic, result })
      return `${head}${payload}${tail}\n${tableOf(inOrder(result.result))}\n${end}`
    },
  )
  return { text, samples }
}

function tableOf(result: CaseResult): string {
  if ('error' in result) return `\`${result.error}\``
  const rows = result.readings.map(({ device, metric, value, unit, ts }) => [
    device,
    metric,
    JSON.stringify(value),
    unit ?? '',
    ts ?? 'the arrival',
  ])
  return [['device', 'metric', 'value', 'unit', 'time'], ['---', '---', '---', '---', '---'], ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n')
}

if (import.meta.main) for (const path of samplePages) writeFileSync(path, samplePage(readFileSync(path, 'utf8')).text)
