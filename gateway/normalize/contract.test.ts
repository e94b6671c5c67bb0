import { describe, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { type DeviceRules, DeviceTypes } from '../auth/device-rules.ts'
import { Contract, type ContractDocument, faultOfContract } from './contract.ts'
import { createNormalizer } from './create-normalizer.ts'
import { arrivalMs, deadLetterOf, eventsOf, gateway, ingress } from './normalized.fixture.ts'

const document: ContractDocument = {
  metrics: {
    temperature: { type: 'number', unit: 'Cel', min: -40, max: 85 },
    state: { type: 'text', values: ['on', 'off'] },
    open: { type: 'flag', unit: null },
    note: {},
  },
}

describe('a contract', () => {
  const contract = new Contract(document)
  const at = { eventTimeUs: 1 }

  it.each([
    [{ metric: 'temperature', value: -40, unit: 'Cel' }],
    [{ metric: 'temperature', value: 85, unit: 'Cel' }],
    [{ metric: 'state', text: 'off' }],
    [{ metric: 'open', flag: false }],
    [{ metric: 'note', text: 'x', unit: 'any' }],
  ])('is kept by %j', (reading) => {
    expect(contract.faultOf([{ ...at, ...reading }])).toBeUndefined()
  })

  it.each([
    [{ metric: 'temperature', value: 85.1, unit: 'Cel' }, 'above 85'],
    [{ metric: 'temperature', value: -41, unit: 'Cel' }, 'below -40'],
    [{ metric: 'temperature', value: 1 }, 'the unit none, not "Cel"'],
    [{ metric: 'temperature', text: '1', unit: 'Cel' }, 'is a text, not a number'],
    [{ metric: 'state', text: 'ON' }, 'none of its values'],
    [{ metric: 'open', flag: true, unit: 'V' }, 'not none'],
    [{ metric: 'constructor', value: 1 }, 'not in the contract'],
  ])('is broken by %j', (reading, fault) => {
    expect(
      contract.faultOf([
        { ...at, metric: 'note', value: 1 },
        { ...at, ...reading },
      ]),
    ).toContain(fault)
  })

  it('may let others come', () => {
    expect(new Contract({ ...document, others: true }).faultOf([{ ...at, metric: 'x', value: 1 }])).toBeUndefined()
  })
})

describe('a document', () => {
  it('that is one has no fault', () => {
    expect(faultOfContract(document)).toBeUndefined()
    expect(faultOfContract({ metrics: {}, others: true })).toBeUndefined()
  })

  it.each<[unknown, string]>([
    [null, 'is an object'],
    [[], 'is an object'],
    [{}, 'metrics is'],
    [{ metrics: {}, other: true }, '"other" is not'],
    [{ metrics: {}, others: 1 }, 'others is'],
    [{ metrics: { a: 1 } }, 'metric "a": it is an object'],
    [{ metrics: { a: { typ: 'number' } } }, '"typ" is none of'],
    [{ metrics: { a: { type: 'int' } } }, 'type is'],
    [{ metrics: { a: { unit: 1 } } }, 'unit is'],
    [{ metrics: { a: { min: 1 } } }, 'need "type":"number"'],
    [{ metrics: { a: { type: 'number', min: 'x' } } }, 'min is a number'],
    [{ metrics: { a: { type: 'number', min: 2, max: 1 } } }, 'min is above max'],
    [{ metrics: { a: { values: ['x'] } } }, 'need "type":"text"'],
    [{ metrics: { a: { type: 'text', values: [] } } }, 'list of texts'],
    [{ metrics: Object.fromEntries(Array.from({ length: 1001 }, (_, n) => [n, {}])) }, 'at most 1000'],
  ])('%j has one', (wrong, fault) => {
    expect(faultOfContract(wrong)).toContain(fault)
  })
})

describe('a message', () => {
  const bodies = { good: '{"values":{"note":1}}', bad: '{"values":{"note":1,"other":2}}' }
  function normalized(body: string, rules: Partial<DeviceRules>, more = {}) {
    let warned = 0
    const normalizer = createNormalizer({
      retentionMs: undefined,
      authenticator: { admitDevice: () => 'admitted' },
      rulesOf: (_, device) =>
        device === 'pump-1'
          ? { identity: 'value', contractMode: 'park', contract: new Contract(document), ...rules }
          : undefined,
      onContractBroken: () => warned++,
    })
    const [outcome] = normalizer.normalize([ingress(body, more)])
    return { outcome: outcome as NonNullable<typeof outcome>, warned }
  }

  it('that breaks its contract is parked, or stored and counted', () => {
    expect(deadLetterOf(normalized(bodies.bad, {}).outcome)).toMatchObject({
      code: 'contract',
      message: 'the metric "other" is not in the contract',
    })
    const stored = normalized(bodies.bad, { contractMode: 'warn' })
    expect([eventsOf(stored.outcome).length, stored.warned]).toEqual([1, 1])
    const kept = normalized(bodies.good, {})
    expect([eventsOf(kept.outcome).length, kept.warned]).toEqual([1, 0])
  })

  it('of several devices is held to the contract of each', () => {
    const body = '{"pump-1":[{"other":1}],"pump-2":[{"other":1}]}'
    const more = { principal: gateway, topic: 'v1/gateway/telemetry' }
    expect(deadLetterOf(normalized(body, {}, more).outcome).code).toBe('contract')
    expect(eventsOf(normalized(body.replace('pump-1', 'pump-3'), {}, more).outcome)).toHaveLength(2)
  })

  it('of a type that tells messages apart says so in the record', () => {
    const timed = JSON.stringify({ ts: arrivalMs, values: { note: 1 } })
    const more = { deliveryKey: 'd-1' }
    expect(eventsOf(normalized(timed, { identity: 'message' }, more).outcome)).toMatchObject([
      { identity: 'message', deliveryKey: 'd-1' },
    ])
    expect(eventsOf(normalized(timed, {}, more).outcome)[0]).not.toHaveProperty('identity')
  })
})

it('types are known by tenant and name, and a contract that somebody broke by hand is not applied', () => {
  const types = new DeviceTypes()
  expect(types.isEmpty).toBe(true)
  const row = { tenant: 'default', identity: 'value', contractMode: 'park', contract: document } as const
  types.take(
    [
      { ...row, name: 'pump' },
      { ...row, name: 'broken', contract: { metrics: 1 } },
      { ...row, name: 'off', contractMode: 'off' },
    ],
    silentLog,
  )
  expect(types.find('default', 'pump')?.contract).toBeInstanceOf(Contract)
  expect(types.find('default', 'broken')?.contract).toBeUndefined()
  expect(types.find('default', 'off')?.contract).toBeUndefined()
  expect(types.find('acme', 'pump')).toBeUndefined()
})
