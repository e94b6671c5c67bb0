import type { Answer, Message } from './message.ts'

/** One way of one device to the other side. A wire that was closed, or lost, opens again. */
export interface Wire {
  /** Resolves when the other side let it in. @throws Error whose message says why not */
  open(): Promise<void>
  /** Ends it without a word, as a cut cable does; what is unanswered gets no answer any more. */
  cut(): void
  /** Ends it as a device does that goes to sleep. */
  close(): Promise<void>
  /** Sends some messages in order; each copy is answered once, unless the wire is lost before. */
  send(messages: readonly Message[]): void
  /** How many messages it carries at once. */
  readonly window: number
  /** True: nothing more is sent before all that is under way was answered. */
  readonly oneAtATime: boolean
}

export interface WireEvents {
  /** The answer for one copy. */
  answered(message: Message, answer: Answer): void
  /** It is lost: whatever has no answer will get none. */
  lost(reason: string): void
}
