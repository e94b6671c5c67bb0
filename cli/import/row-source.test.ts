import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, expect, it } from 'vitest'
import { type FileRow, formatOf, openRows } from './row-source.ts'

const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-rows-'))
afterAll(() => rmSync(folder, { recursive: true }))

let numbered = 0

async function read(name: string, content: string | Buffer): Promise<{ columns: readonly string[]; rows: FileRow[] }> {
  const file = join(folder, `${++numbered}-${name}`)
  writeFileSync(file, content)
  const source = await openRows(file, formatOf(file))
  const rows: FileRow[] = []
  for await (const some of source.rows) rows.push(...some)
  return { columns: source.columns, rows }
}

const cellsOf = ({ cells }: FileRow) => (cells === undefined ? undefined : Object.fromEntries(cells))

it.each([',', ';', '\t', '|'])('finds the delimiter %j', async (delimiter) => {
  const text = `\ufeffa${delimiter}b\r\n1${delimiter}"x${delimiter}""y"""\r\n\r\n2${delimiter}\r\n`
  const { columns, rows } = await read('x.csv', text)
  expect(columns).toEqual(['a', 'b'])
  expect(rows.map(cellsOf)).toEqual([
    { a: '1', b: `x${delimiter}"y"` },
    { a: '2', b: '' },
  ])
})

it('tells bad rows and reads on, and a stray quote takes no other row with it', async () => {
  const { rows } = await read('x.csv', 'a,b\n1,2,3\n4,"5"6\n7,8\n9\n')
  expect(rows.map(({ line, fault }) => [line, fault !== undefined])).toEqual([
    [2, true],
    [3, false],
    [4, false],
    [5, false],
  ])
  expect(rows.slice(1).map(cellsOf)).toEqual([{ a: '4', b: '"5"6' }, { a: '7', b: '8' }, { a: '9' }])
})

it('a quote that is never closed is told, with memory that has an end', async () => {
  const { rows } = await read('x.csv', `a,b\n1,2\n3,"${'x\n'.repeat(300_000)}`)
  expect(rows.map(({ fault }) => fault !== undefined)).toContain(true)
  expect(rows.length).toBeLessThan(600_000)
  expect(cellsOf(rows[0] as FileRow)).toEqual({ a: '1', b: '2' })
})

it('reads NDJSON, also with lines that are none and one that is endless', async () => {
  const { columns, rows } = await read(
    'x.ndjson',
    `{"a":1,"b":{"c":2}}\n\nno\n[1]\n${'x'.repeat(600_000)}\n{"a":"é","z":null}`,
  )
  expect(columns).toEqual(['a', 'b', 'z'])
  expect(rows.map(({ line, fault }) => [line, fault])).toEqual([
    [1, undefined],
    [3, 'is no JSON'],
    [4, 'is no JSON object'],
    [5, expect.stringContaining('more than')],
    [6, undefined],
  ])
  expect(cellsOf(rows[4] as FileRow)).toEqual({ a: 'é', z: null })
})

it('reads gzip, and says when it is broken or cut off', async () => {
  const zipped = gzipSync(`n\n${Array.from({ length: 20_000 }, (_, n) => n).join('\n')}\n`)
  expect((await read('x.csv.gz', zipped)).rows).toHaveLength(20_000)
  await expect(read('x.csv.gz', zipped.subarray(0, zipped.length / 2))).rejects.toThrow(
    /cannot be read: unexpected end/,
  )
  await expect(read('x.csv.gz', 'a,b\n1,2\n')).rejects.toThrow(/cannot be read: incorrect header/)
})

it('refuses what is no file of rows', async () => {
  await expect(read('x.csv', '')).rejects.toThrow(/no line with the names/)
  await expect(read('x.ndjson', '1\n2\n')).rejects.toThrow(/none of its first lines/)
  await expect(openRows(join(folder, 'absent.csv'), 'csv')).rejects.toThrow(/cannot be read/)
  await expect(openRows(folder, 'csv')).rejects.toThrow(/no file/)
  expect(() => formatOf('x.parquet')).toThrow(/--format/)
})
