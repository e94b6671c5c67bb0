import { afterEach, expect, it, vi } from 'vitest'
import { overrideRequestQueueTimer, type RequestQueue } from './kafka-request-queue.ts'

interface DrivenQueue extends RequestQueue {
  push(request: object): void
  fulfillRequest(response: object): void
  maybeThrottle(ms: number): void
  destroy(): void
}

const sent: number[] = []
const quiet = { debug() {}, warn() {} }

function createQueue(maxInFlightRequests: number | null): DrivenQueue {
  const RequestQueue = overrideRequestQueueTimer()
  return new RequestQueue({
    maxInFlightRequests,
    requestTimeout: 5000,
    clientId: 'test',
    broker: 'b:1',
    logger: quiet,
  }) as DrivenQueue
}

function requestOf(correlationId: number): object {
  return {
    entry: { correlationId, resolve() {}, reject() {} },
    expectResponse: true,
    sendRequest: () => sent.push(correlationId),
  }
}

afterEach(() => {
  vi.useRealTimers()
  sent.length = 0
})

it('sets no timer after an answer when nothing waits, so Node has no negative timeout to warn of', () => {
  const timeouts = vi.spyOn(globalThis, 'setTimeout')
  const queue = createQueue(null)
  queue.push(requestOf(1))
  queue.fulfillRequest({ correlationId: 1, payload: null, size: 0 })
  queue.checkPendingRequests()
  expect(sent).toEqual([1])
  expect(timeouts).not.toHaveBeenCalled()
})

it('never asks for a timeout below 10 ms while requests wait for their turn', () => {
  const timeouts = vi.spyOn(globalThis, 'setTimeout')
  const queue = createQueue(1)
  queue.push(requestOf(1))
  queue.push(requestOf(2))
  expect(timeouts.mock.calls.map(([, ms]) => ms)).toEqual([10])
  queue.fulfillRequest({ correlationId: 1, payload: null, size: 0 })
  expect(sent).toEqual([1, 2])
  queue.destroy()
})

it('holds requests for as long as the broker throttles, then sends them in order', () => {
  vi.useFakeTimers()
  const queue = createQueue(null)
  queue.maybeThrottle(400)
  queue.push(requestOf(1))
  queue.push(requestOf(2))
  vi.advanceTimersByTime(390)
  expect(sent).toEqual([])
  vi.advanceTimersByTime(20)
  expect(sent).toEqual([1, 2])
  queue.destroy()
})
