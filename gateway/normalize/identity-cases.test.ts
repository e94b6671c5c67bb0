import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { Principal } from '../auth/principal.ts'
import type { Ingress } from '../ingress.ts'
import { ArrivalClock } from './arrival-clock.ts'
import { createNormalizer } from './create-normalizer.ts'
import type { CaseMessage, DecodeCase } from './decode-case.ts'
import { deviceOf, fleetOf, ingress } from './normalized.fixture.ts'

const folder = new URL('./cases/', import.meta.url)
const files = readdirSync(folder)

function casesOf(file: string): DecodeCase[] {
  return JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as DecodeCase[]
}

/** Devices that a case's readings are of, in the order of their names. */
function devicesOf({ expect: expected }: DecodeCase): string[] {
  return 'error' in expected ? [] : [...new Set(expected.readings.map(({ device }) => device))].sort()
}

function run(
  example: DecodeCase,
  principal: Principal,
  admitDevice: (principal: Principal, device: string) => 'admitted' | 'disabled' | 'too_many_devices',
  /** The messages before it are through. */
  begin: () => void = () => {},
) {
  const normalizer = createNormalizer({
    retentionMs: undefined,
    authenticator: { admitDevice },
    clock: new ArrivalClock(),
  })
  const message = ({ topic, path, payload_base64: base64, payload_utf8: text }: CaseMessage): Ingress =>
    ingress(base64 === undefined ? (text ?? '') : Buffer.from(base64, 'base64'), {
      principal,
      source: example.transport,
      topic: topic ?? path ?? '',
      contentType: example.content_type,
      headers: example.headers === undefined ? undefined : new Map(Object.entries(example.headers)),
    })
  normalizer.normalize((example.before ?? []).map(message))
  begin()
  return normalizer.normalize([message(example)]).at(0)
}

/** A message of its own may come by a name that is no id, such as an AWS thing; those are parked before anybody asks for rights. */
const decoded = (file: string) => casesOf(file).filter((example) => devicesOf(example).length > 0)

describe.each(files)('%s: identity meets format', (file) => {
  const cases = decoded(file)

  it('a device credential speaks for no other device, whichever part of the message names it', () => {
    for (const example of cases) {
      const outcome = run(example, deviceOf('somebody-else'), () => 'admitted')
      // Where nothing names a device it is the sender's own.
      const others = devicesOf(example).filter((device) => device !== example.client_id)
      const named = outcome?.kind === 'events' ? outcome.events.map(({ device }) => device) : []
      expect(
        named.filter((device) => device !== 'somebody-else'),
        example.id,
      ).toEqual([])
      if (others.length > 0) expect(outcome?.kind, example.id).toBe('refused')
    }
  })

  it('a fleet credential brings its devices in on first sight, each asked for once', () => {
    for (const example of cases) {
      const asked: string[] = []
      const outcome = run(
        example,
        fleetOf(example.client_id ?? 'gw-1'),
        (_, device) => {
          asked.push(device)
          return 'admitted'
        },
        () => asked.splice(0),
      )
      const events = outcome?.kind === 'events' ? outcome.events : []
      expect(events.map(({ device }) => device).sort(), example.id).toEqual(devicesOf(example))
      expect(asked.sort(), example.id).toEqual(devicesOf(example).filter((device) => device !== example.client_id))
    }
  })

  it('outside its pattern nothing is stored, and nothing past its cap', () => {
    for (const example of cases) {
      const others = devicesOf(example).filter((device) => device !== example.client_id)
      if (others.length === 0) continue
      const fleet = fleetOf(example.client_id ?? 'gw-1', 'no-such-*')
      expect(run(example, fleet, () => 'admitted')?.kind, example.id).toBe('refused')
      const outcome = run(example, fleetOf(example.client_id ?? 'gw-1'), () => 'too_many_devices')
      expect(outcome?.kind === 'dead' ? outcome.deadLetter.code : outcome?.kind, example.id).toBe('too_many_devices')
    }
  })

  it('has cases that put it to the test', () => {
    expect(cases.length).toBeGreaterThan(0)
  })
})
