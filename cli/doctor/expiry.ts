import type { X509Certificate } from 'node:crypto'
import { type Finding, fail, ok, warn } from './check.ts'

const dayMs = 86_400_000
const warnDays = 30
const failDays = 7

export function expiryOf(what: string, { validFrom, validTo }: X509Certificate, now: number): Finding {
  const days = Math.floor((Date.parse(validTo) - now) / dayMs)
  if (Date.parse(validFrom) > now)
    return fail(`${what} is not valid before ${validFrom}`, "Mend this machine's clock, or wait until then.")
  const advice = 'Renew it; a new file is read while the gateway runs.'
  if (days < 0) return fail(`${what} ended on ${validTo}: clients refuse it`, advice)
  if (days < failDays) return fail(`${what} ends in ${days} day(s), on ${validTo}`, advice)
  if (days < warnDays) return warn(`${what} ends in ${days} days, on ${validTo}`, advice)
  return ok(`${what} is good for ${days} days, until ${validTo}`)
}
