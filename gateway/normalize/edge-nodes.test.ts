import { expect, it } from 'vitest'
import { type BornMetric, EdgeNodes, type NodeAddress } from './edge-nodes.ts'

const address = (node: string, sender = 'gw'): NodeAddress => ({ tenant: 'default', sender, node })
const metrics = (count: number, name = 'm'): BornMetric[] =>
  Array.from({ length: count }, (_, alias) => ({ name: `${name}${alias}`, datatype: 9, alias }))

it('forgets the node that was not heard of for the longest', () => {
  const nodes = new EdgeNodes({ maxNodesOfSender: 2 })
  nodes.bear(address('G/1'), '', metrics(1))
  nodes.bear(address('G/2'), '', metrics(1))
  expect(nodes.byAlias(address('G/1'), 0)).toBeDefined()
  nodes.bear(address('G/3'), '', metrics(1))
  expect([1, 2, 3].map((id) => nodes.isBorn(address(`G/${id}`)))).toEqual([true, false, true])
})

it('a sender that floods pushes out its own births, not the others’', () => {
  const nodes = new EdgeNodes({ maxNodes: 10, maxNodesOfSender: 100, maxBytes: 100_000, maxBytesOfSender: 1e9 })
  nodes.bear(address('G/N', 'good'), '', metrics(3))
  for (let id = 0; id < 1000; id++) nodes.bear(address(`G/${id}`, 'bad'), '', metrics(20))
  expect(nodes.byAlias(address('G/N', 'good'), 2)?.name).toBe('m2')
  expect(nodes.count).toBeLessThanOrEqual(10)
  expect(nodes.bytes).toBeLessThanOrEqual(100_000)
})

it('its memory does not grow, whatever births come, and its books balance', () => {
  const nodes = new EdgeNodes({ maxBytes: 400_000, maxBytesOfSender: 300_000, maxMetrics: 50 })
  for (let round = 0; round < 3000; round++) {
    const of = address(`G/${round % 40}`, `gw${round % 3}`)
    const twice = [...metrics(round % 60), ...metrics(round % 7)]
    nodes.bear(of, round % 4 === 0 ? '' : `D${round % 5}`, twice)
    expect(nodes.bytes).toBeLessThanOrEqual(400_000)
  }
  const start = process.memoryUsage().heapUsed
  for (let round = 0; round < 3000; round++) nodes.bear(address(`H/${round}`), '', metrics(50, 'x'.repeat(200)))
  expect(process.memoryUsage().heapUsed - start).toBeLessThan(64 * 1024 * 1024)
  const empty = new EdgeNodes({ maxMetrics: 50 })
  for (let round = 0; round < 100; round++) empty.bear(address('G/N'), 'D', [...metrics(30), ...metrics(5)])
  const { bytes } = empty
  empty.bear(address('G/N'), 'D', [...metrics(30), ...metrics(5)])
  expect(empty.bytes, 'the same birth again costs the same').toBe(bytes)
})

it('names that can be no reading, and what is beyond the bound, are not remembered', () => {
  const nodes = new EdgeNodes({ maxMetrics: 2 })
  nodes.bear(address('G/N'), '', [{ name: 'x'.repeat(300), datatype: 9, alias: 9 }, ...metrics(5)])
  expect([9, 0, 1, 2].map((alias) => nodes.byAlias(address('G/N'), alias)?.name)).toEqual([
    undefined,
    'm0',
    'm1',
    undefined,
  ])
})

it('asks at once, then ever more rarely, and after a birth anew', () => {
  const nodes = new EdgeNodes()
  const asked: number[] = []
  for (let nowMs = 0; nowMs < 700_000; nowMs += 500) if (nodes.mayAsk(address('G/N'), nowMs)) asked.push(nowMs / 1000)
  expect(asked).toEqual([0, 5, 15, 35, 75, 155, 315, 615])
  nodes.bear(address('G/N'), '', [])
  expect(nodes.mayAsk(address('G/N'), 619_000), 'not sooner than five seconds after the last').toBe(false)
  expect(nodes.mayAsk(address('G/N'), 621_000)).toBe(true)
})
