import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createDirectWriter, type WriteDirect } from './direct-writer.ts'
import { baseUs, deadLetterOf, eventOf, type StoreDatabase, storeDatabase } from './store.fixture.ts'
import type { Store } from './store.ts'
import { startProxy } from './store-proxy.fixture.ts'
import type { StreamSlice } from './stream-slice.ts'

let database: StoreDatabase
let store: Store
beforeEach(async () => {
  database = await storeDatabase()
  store = await database.open()
})
afterEach(async () => {
  await store?.close()
  await database?.[Symbol.asyncDispose]()
})

const numbered = (value: number) => eventOf('d', [{ metric: 'm', value, eventTimeUs: baseUs + value }])
const values = async () => (await database.rows('select value from telemetry order by value')).map(({ value }) => value)
const health = async () =>
  (await database.rows(`select stored::int, duplicate::int, parked::int from ingest_health where stream = 'direct'`))[0]

describe('the direct writer', () => {
  it('resolves when the rows are there', async () => {
    const write = await createDirectWriter(store)
    await write([numbered(1), numbered(2)], [deadLetterOf()])
    expect(await values()).toEqual([1, 2])
    await write([], [])
    await write([numbered(1)], [])
    expect(await health()).toEqual({ stored: 2, duplicate: 1, parked: 1 })
  })

  it('puts what arrives during a transaction into the next one, in order', async () => {
    const write = await createDirectWriter(store)
    const sizes: number[] = []
    store.onStored = (slices) => sizes.push((slices[0] as StreamSlice).records.length)
    const done: number[] = []
    const writes = Array.from({ length: 200 }, (_, index) => write([numbered(index)], []).then(() => done.push(index)))
    await Promise.all(writes)
    expect(done).toEqual(Array.from({ length: 200 }, (_, index) => index))
    expect(sizes[0]).toBe(1)
    expect(sizes[1]).toBe(199)
    sizes.length = 0
    const large = Array.from({ length: 4 }, (_, part) =>
      write(
        Array.from({ length: 3000 }, (_, index) => numbered(1000 + part * 3000 + index)),
        [],
      ),
    )
    await Promise.all(large)
    expect(sizes, 'no more than 5,000 together').toEqual([3000, 3000, 3000, 3000])
  })

  it('learns from the offset that a commit without an answer was one, and writes nothing twice', async () => {
    await using proxy = await startProxy(database.url)
    await using through = await database.open({ url: proxy.url })
    const write = await createDirectWriter(through)
    await write([numbered(0)], [])
    proxy.cutAtCommit()
    await write([numbered(1)], [deadLetterOf()])
    expect(proxy.cuts()).toBe(1)
    await write([numbered(2)], [])
    expect(await values()).toEqual([0, 1, 2])
    expect(await health(), 'and counted once').toEqual({ stored: 3, duplicate: 0, parked: 1 })
  })

  it('keeps trying while the database is away', async () => {
    await using proxy = await startProxy(database.url)
    await using through = await database.open({ url: proxy.url })
    const write = await createDirectWriter(through)
    await write([numbered(0)], [])
    proxy.refuse(true)
    const writing = [1, 2, 3].map((value) => write([numbered(value)], []))
    let settled = false
    void Promise.allSettled(writing).then(() => {
      settled = true
    })
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(settled).toBe(false)
    proxy.refuse(false)
    await Promise.all(writing)
    expect(await values()).toEqual([0, 1, 2, 3])
    expect(await health()).toEqual({ stored: 4, duplicate: 0, parked: 0 })
  })

  it('is fenced by the writer that came after it, with not one of its later messages taken', async () => {
    const first = await createDirectWriter(store)
    await first([numbered(0)], [])
    const second = await createDirectWriter(store)
    await expect(first([numbered(1)], [])).rejects.toMatchObject({ code: 'BRIDGE_OFFSET_FENCED' })
    await second([numbered(2)], [])
    await expect(first([numbered(3)], []), 'for good').rejects.toMatchObject({ code: 'BRIDGE_OFFSET_FENCED' })
    expect(await values()).toEqual([0, 2])
  })

  it('does not take the commit of another writer for its own', async () => {
    await using proxy = await startProxy(database.url)
    await using through = await database.open({ url: proxy.url })
    const first = await createDirectWriter(through)
    await first([numbered(0)], [])
    proxy.refuse(true)
    const lost = first([numbered(1)], [])
    const second = await createDirectWriter(store)
    // As many records as the first one holds.
    await second([numbered(2)], [])
    proxy.refuse(false)
    await expect(lost).rejects.toMatchObject({ code: 'BRIDGE_OFFSET_FENCED' })
    expect(await values()).toEqual([0, 2])
  })

  it('goes on after the database lost commits (a standby that was late)', async () => {
    const write = await createDirectWriter(store)
    const [before] = await database.rows<{ next_offset: string }>('select next_offset from ingest_offset')
    await write([numbered(0), numbered(1)], [])
    await database.sql.query('update ingest_offset set next_offset = $1', [before?.next_offset])
    await write([numbered(2)], [])
    await write([numbered(3)], [])
    expect(await values()).toEqual([0, 1, 2, 3])
  })

  it('ends with the store', async () => {
    const closing = await database.open()
    const write: WriteDirect = await createDirectWriter(closing)
    const writing = write([numbered(0)], [])
    await closing.close()
    await writing
    await expect(write([numbered(1)], [])).rejects.toThrow('closed')
  })
})
