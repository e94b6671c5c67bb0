import { describe, expect, it } from 'vitest'
import { arrivalMs, deadLetterOf, eventOf, fleetOf, http, ingress, outcomeOf } from './normalized.fixture.ts'

const timed = JSON.stringify({ ts: arrivalMs, values: { n: 1 } })
const named = '{"id":"m-1","values":{"n":1}}'
const delivery = { deliveryKey: 'client 1 7 42', resend: true } as const

describe('the name of a message', () => {
  it('is the one in its bytes, else that of its request', () => {
    expect(eventOf(ingress(named, http({ messageKey: 'r-1' }))).messageKey).toBe('m-1')
    expect(eventOf(ingress('{"values":{"n":1}}', http({ messageKey: 'r-1' }))).messageKey).toBe('r-1')
    expect(eventOf(ingress('21.5', http({ messageKey: 'r-1', contentType: 'text/plain' }))).messageKey).toBe('r-1')
    expect(eventOf(ingress('{"n":1}', http()))).not.toHaveProperty('messageKey')
  })

  it('is that of every device in it', () => {
    const outcome = outcomeOf(
      ingress('{"a":[{"n":1}],"b":[{"n":1}]}', {
        principal: fleetOf('gw'),
        topic: 'v1/gateway/telemetry',
        messageKey: 'k',
      }),
    )
    expect(outcome).toMatchObject({ kind: 'events', events: [{ messageKey: 'k' }, { messageKey: 'k' }] })
  })
})

describe('the delivery of a message', () => {
  it('is told where its readings carry no time, or one that was not believed', () => {
    const farAhead = JSON.stringify({ ts: arrivalMs + 3_600_000, values: { n: 1 } })
    for (const body of ['{"values":{"n":1}}', farAhead, `[${timed},{"values":{"m":1}}]`])
      expect(eventOf(ingress(body, delivery)), body).toMatchObject(delivery)
    expect(eventOf(ingress('{"n":1}', { deliveryKey: 'd' }))).not.toHaveProperty('resend')
  })

  it('is not where readings or a name tell already', () => {
    for (const body of [timed, named]) {
      expect(eventOf(ingress(body, delivery)), body).not.toHaveProperty('deliveryKey')
      expect(eventOf(ingress(body, delivery)), body).not.toHaveProperty('resend')
    }
  })
})

it('the dead letter keeps what a replay needs beside the bytes, and nothing where the bytes are enough', () => {
  expect(deadLetterOf(outcomeOf(ingress('{'))).context).toBeUndefined()
  const principal = fleetOf('gw-1')
  const item = { principal, topic: 'gateways/me/telemetry', device: 'a', fleetItem: true }
  expect(deadLetterOf(outcomeOf(ingress('[{', item)))).toMatchObject({
    device: 'a',
    context: { sender: 'gw-1', fleet: true, fleetItem: true, device: 'a' },
  })
  expect(deadLetterOf(outcomeOf(ingress('5', http({ arrayElement: true, messageKey: 'k#1' })))).context).toEqual({
    arrayElement: true,
    messageKey: 'k#1',
  })
  const nowhere = deadLetterOf(
    outcomeOf(ingress('1', { principal, device: 'a+b', topic: '/v1/devices/a+b/telemetry' })),
  )
  expect(nowhere).toMatchObject({ device: 'gw-1', code: 'bad_device', context: { fleet: true, device: 'a+b' } })
})
