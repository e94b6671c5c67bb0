import type { LimitPolicy } from './limit-policy.ts'
import { owners, payerOf, type Rule } from './limits.ts'
import type { Cost, Wait } from './rate-limiter.ts'

/** What take.lua is asked: keys, its JSON argument, and which of the costs it holds. */
export interface TakeCall {
  readonly keys: readonly string[]
  readonly argument: string
  /** For each cost of the call its index in what `takeCall` was given. */
  readonly asked: readonly number[]
  readonly rules: readonly Rule[]
}

/**
 * Puts costs into one call: every bucket is named once, and equal costs in succession are one entry, those that ask nothing left out.
 * @returns undefined when the costs ask nothing of any rule
 */
export function takeCall(policy: LimitPolicy, costs: readonly Cost[]): TakeCall | undefined {
  const keys: string[] = []
  const ruleOf: number[] = []
  const numberOf = new Map<string, number>()
  const numbers: number[] = []
  const asked: number[] = []
  const rules: Rule[] = []
  const numberOfRule = new Map<Rule, number>()
  let previous: Cost | undefined
  let entry = 0
  for (let index = 0; index < costs.length; index++) {
    const cost = costs[index] as Cost
    if (previous !== undefined && sameCost(previous, cost)) {
      numbers[entry] = (numbers[entry] as number) + 1
      asked.push(index)
      continue
    }
    const start = numbers.length
    numbers.push(1, 0)
    for (const owner of owners) {
      const payer = payerOf(owner, cost)
      if (payer === undefined) continue
      for (const rule of policy.rulesOf(owner, cost.tenant, payer)) {
        const amount = cost[rule.quantity] ?? 0
        if (amount <= 0) continue
        const key = `${keyPrefix(rule)}${cost.tenant}/${payer}`
        let keyNumber = numberOf.get(key)
        if (keyNumber === undefined) {
          let number = numberOfRule.get(rule)
          if (number === undefined) {
            number = rules.push(rule)
            numberOfRule.set(rule, number)
          }
          keyNumber = keys.push(key)
          ruleOf.push(number)
          numberOf.set(key, keyNumber)
        }
        numbers.push(keyNumber, amount)
      }
    }
    const parts = (numbers.length - start - 2) / 2
    if (parts === 0) {
      numbers.length = start
      continue
    }
    numbers[start + 1] = parts
    entry = start
    previous = cost
    asked.push(index)
  }
  if (asked.length === 0) return undefined
  const bounds = rules.map(({ burst, seconds }) => [burst, seconds])
  return { keys, argument: JSON.stringify({ rules: bounds, ruleOf, costs: numbers }), asked, rules }
}

/** What take.lua answered, for each of the costs that `takeCall` was given. */
export function waitsOf(count: number, { asked, rules }: TakeCall, reply: readonly number[]): (Wait | undefined)[] {
  const waits = new Array<Wait | undefined>(count).fill(undefined)
  for (let position = 0; position < reply.length; position += 3) {
    const [index, ms, rule] = [reply[position], reply[position + 1], reply[position + 2]] as [number, number, number]
    waits[asked[index] as number] = { ms, limit: (rules[rule - 1] as Rule).limit }
  }
  return waits
}

/**
 * The window is part of the key: gateways that run with different limits, as while settings are rolled out, then never read each
 * other's buckets. A tenant's name has no slash, so tenant and device cannot be confused.
 */
function keyPrefix({ limit, burst, seconds }: Rule): string {
  return `fleetbridge:limit:${limit}:${burst}:${seconds}:`
}

function sameCost(one: Cost, other: Cost): boolean {
  return (
    one.device === other.device &&
    one.fleet === other.fleet &&
    one.tenant === other.tenant &&
    one.messages === other.messages &&
    one.readings === other.readings &&
    one.bytes === other.bytes &&
    one.catchUp === other.catchUp &&
    one.deviceOnly === other.deviceOnly
  )
}
