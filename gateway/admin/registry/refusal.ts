import { BridgeError } from '#platform/errors.ts'

/** Why a change of the registry was refused; the admin API makes a status of it, the command line ends with 2. */
export type RefusalReason = 'invalid' | 'not_found' | 'conflict' | 'not_allowed'

function refusal(reason: RefusalReason, message: string, cause?: unknown): BridgeError {
  return new BridgeError('BRIDGE_USAGE', message, { cause, details: { refusal: reason } })
}

/** What was given cannot be meant. */
export const invalid = (message: string, cause?: unknown): BridgeError => refusal('invalid', message, cause)
/** What was named is not there. */
export const missing = (message: string): BridgeError => refusal('not_found', message)
/** What is there stands against it. */
export const conflict = (message: string, cause?: unknown): BridgeError => refusal('conflict', message, cause)

/** Who asks may not. */
export const notAllowed = (message: string): BridgeError => refusal('not_allowed', message)

/** The reason of one of ours; undefined for any other error. */
export function refusalReason(error: unknown): RefusalReason | undefined {
  if (!(error instanceof BridgeError) || error.code !== 'BRIDGE_USAGE') return undefined
  return (error.details.refusal as RefusalReason | undefined) ?? 'invalid'
}

/** The first three of many names, for a message. */
export function named(names: readonly string[]): string {
  const shown = names
    .slice(0, 3)
    .map((name) => JSON.stringify(name))
    .join(', ')
  return `${shown}${names.length > 3 ? ', …' : ''}`
}
