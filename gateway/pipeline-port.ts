import type { Envelope } from './envelope.ts'

/** The one way in. `push` never throws and never settles before it returns. */
export interface Pipeline {
  push(envelope: Envelope): void
}
