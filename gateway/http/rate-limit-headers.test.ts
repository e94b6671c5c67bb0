import { expect, it } from 'vitest'
import { rateLimitHeaders } from './rate-limit-headers.ts'

it('names each window, what it allows and what is left', () => {
  expect(
    rateLimitHeaders([
      { limit: 'device', burst: 100, seconds: 1, left: 99, resetMs: 10 },
      { limit: 'device', burst: 2000, seconds: 60, left: 0, resetMs: 60_000 },
      { limit: 'device_bytes', burst: 5000, seconds: 1, left: 12.7, resetMs: 999 },
      { limit: 'tenant_readings', burst: 9, seconds: 3600, left: -3, resetMs: 4_000_000 },
    ]),
  ).toEqual({
    'ratelimit-policy':
      '"device-1";q=100;qu="messages";w=1, "device-60";q=2000;qu="messages";w=60, ' +
      '"device_bytes";q=5000;qu="content-bytes";w=1, "tenant_readings";q=9;qu="readings";w=3600',
    ratelimit: '"device-1";r=99;t=1, "device-60";r=0;t=60, "device_bytes";r=12;t=1, "tenant_readings";r=0;t=4000',
  })
})

it('names the limits of a backlog only while there is one', () => {
  const backlog = { limit: 'catch_up_device', burst: 50, seconds: 1, left: 50, resetMs: 0 } as const
  expect(rateLimitHeaders([backlog])).toEqual({})
  expect(rateLimitHeaders([{ ...backlog, left: 3, resetMs: 940 }])).toEqual({
    'ratelimit-policy': '"catch_up_device";q=50;qu="messages";w=1',
    ratelimit: '"catch_up_device";r=3;t=1',
  })
})

it('says nothing where nothing is limited', () => {
  expect(rateLimitHeaders([])).toEqual({})
})
