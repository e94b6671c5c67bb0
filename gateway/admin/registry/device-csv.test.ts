import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { type ImportRow, type RejectedLine, readDeviceCsv } from './device-csv.ts'

async function read(...chunks: (string | Buffer)[]): Promise<{ rows: ImportRow[]; rejected: RejectedLine[] }> {
  const csv = await readDeviceCsv(Readable.from(chunks), 'default')
  const rows: ImportRow[] = []
  const rejected: RejectedLine[] = []
  for await (const batch of csv.batches) {
    rows.push(...batch.rows)
    rejected.push(...batch.rejected)
  }
  return { rows, rejected }
}

describe('good files', () => {
  it.each([
    ['LF', 'device,type,site,tenant\na,meter,north,acme\n'],
    ['CRLF and no end', 'device,type,site,tenant\r\na,meter,north,acme'],
    ['another order, capitals, spaces', 'Site, TYPE ,tenant,Device\nnorth, meter,acme ,a\n'],
    ['a byte order mark', '\ufeffdevice,type,site,tenant\na,meter,north,acme\n'],
    ['quotes', '"device","type","site","tenant"\n"a","meter","north","acme"\n'],
    ['empty lines', '\ndevice,type,site,tenant\n\na,meter,north,acme\n\n'],
  ])('%s', async (_name, text) => {
    const { rows, rejected } = await read(text)
    expect(rows).toMatchObject([{ device: 'a', type: 'meter', site: 'north', tenant: 'acme' }])
    expect(rejected).toEqual([])
  })

  it('needs the device alone, and cuts nothing where chunks are cut', async () => {
    const bytes = Buffer.from('device\nZürich "7"\n'.replace('Zürich "7"', '"Zürich, ""7"""'))
    const { rows } = await read(...Array.from(bytes, (byte) => Buffer.from([byte])))
    expect(rows).toEqual([{ line: 2, device: 'Zürich, "7"', type: null, site: null, tenant: 'default', aliases: [] }])
  })

  it('names columns that it does not know', async () => {
    const csv = await readDeviceCsv(Readable.from(['device,status,created\na,enabled,x\n']), 'default')
    expect(csv.ignored).toEqual(['status', 'created'])
    expect(csv.namesTenants).toBe(false)
  })

  it('hands on batches of at most 1,000', async () => {
    const text = `device\n${Array.from({ length: 2500 }, (_, index) => `d-${index}`).join('\n')}`
    const csv = await readDeviceCsv(Readable.from([text]), 'default')
    const sizes: number[] = []
    for await (const { rows } of csv.batches) sizes.push(rows.length)
    expect(sizes).toEqual([1000, 1000, 500])
  })
})

describe('bad lines', () => {
  it('reports each with its number and goes on', async () => {
    const lines = [
      'device,site,tenant',
      'ok-1,x,',
      'a+b,x,',
      ',x,',
      'ok-1,y,',
      'ok-1,y,acme',
      'b,x,Not A Tenant',
      'c,x,,more',
      'd,a\u0007b,',
      `${'x'.repeat(129)},x,`,
      'e"e,x,',
      '$SYS,x,',
      'ok-2,,',
    ]
    const { rows, rejected } = await read(lines.join('\n'))
    expect(rows.map(({ device, tenant }) => `${tenant}/${device}`)).toEqual([
      'default/ok-1',
      'acme/ok-1',
      'default/ok-2',
    ])
    const reasons = rejected.sort((one, other) => one.line - other.line).map(({ line, reason }) => `${line}: ${reason}`)
    expect(reasons).toEqual([
      '3: the device id holds + or #, which MQTT keeps for filters',
      '4: names no device',
      '5: stands in this file twice',
      '7: the tenant is not 1 to 63 of a-z, 0-9 and -',
      '8: has 4 cells, and the header 3',
      '9: the site holds a control character',
      '10: the device id has 129 bytes, and 1 to 128 are allowed',
      expect.stringMatching(/^11: is no CSV/),
      '12: the device id begins with $',
    ])
  })

  it('a quote that holds lines together: all of them are named', async () => {
    const { rows, rejected } = await read('device,site\na,1\nb,"2\nc,3\nd,"4"\ne,5\nf,"x" y\ng,7\nh,8\n')
    expect(rows.map(({ device }) => device)).toEqual(['a', 'e'])
    const reasons = rejected.map(({ line, reason }) => `${line} ${reason}`)
    expect(reasons).toEqual([
      expect.stringMatching(/^3 and those until line 5, which a quote holds together, are no CSV/),
      expect.stringMatching(/^7 is no CSV/),
      expect.stringMatching(/^7 and those until line 9, which a quote holds together, are no CSV/),
    ])
  })

  it('bytes that are no UTF-8 are no other name', async () => {
    const { rows, rejected } = await read(Buffer.from('device\na\xff\nb\n', 'latin1'))
    expect(rows).toMatchObject([{ device: 'b' }])
    expect(rejected).toMatchObject([{ line: 2, reason: 'the device id is not valid UTF-8' }])
  })

  it.each([
    ['a quote that is never closed', '"open'],
    ['a line without end', 'x'.repeat(100_000)],
  ])('%s ends the file, loudly', async (_name, bad) => {
    const good = Array.from({ length: 20_000 }, (_, index) => `d-${index}`)
    const { rows, rejected } = await read(`device\nfirst\n${bad}\n${good.join('\n')}\n`)
    expect(rows).toMatchObject([{ device: 'first' }])
    expect(rejected).toEqual([{ line: 3, device: '', reason: expect.stringContaining('all that follow are not read') }])
  })
})

it.each(['', '\n', 'name,site\na,b\n', 'a,b,c\n', '"device'])('no header with device: %j', async (text) => {
  await expect(readDeviceCsv(Readable.from([text]), 'default')).rejects.toThrow(/first line must name the columns/)
})

it('a file that breaks off is an error and no end', async () => {
  const broken = new Readable({
    read() {
      this.push('device\na\n')
      this.destroy(new Error('the disk is gone'))
    },
  })
  await expect(
    (async () => {
      const csv = await readDeviceCsv(broken, 'default')
      for await (const _batch of csv.batches);
    })(),
  ).rejects.toThrow('the disk is gone')
})
