import type { Admin } from 'kafkajs'
import type pg from 'pg'
import type { Config } from '#platform/config-schema.ts'
import type { Instance } from '../instance.ts'

export type Verdict = 'ok' | 'warn' | 'fail'

/** One line of the report: what was seen, and what to do about it where something is to be done. */
export interface Finding {
  readonly verdict: Verdict
  readonly seen: string
  readonly advice?: string
  /** To be pasted into a shell as it is. */
  readonly line?: string
}

/** One thing to look at. It changes nothing, and says itself when there is nothing to look at. */
export interface Check {
  readonly name: string
  /** @throws ServerAway where a server is needed that does not answer: told as "not checked" */
  run(context: DoctorContext): Promise<readonly Finding[]> | readonly Finding[]
}

export type Redis = (command: string, ...args: string[]) => Promise<unknown>

/** What checks look through. Connections are opened when first asked for, and shared. */
export interface DoctorContext {
  readonly config: Config
  /** What `up` runs on the data folder; undefined when nothing does. */
  readonly instance: Instance | undefined
  /** Database of DATABASE_URL or of the embedded Postgres while it runs; undefined while it does not. */
  readonly database: DoctorDatabase | undefined
  /** This machine's clock, milliseconds since the epoch. */
  now(): number
  /** @throws ServerAway */
  postgres(): Promise<pg.Pool>
  /** @throws ServerAway */
  kafka(): Promise<Admin>
  /** @throws ServerAway */
  redis(): Promise<Redis>
}

export interface DoctorDatabase {
  readonly url: string
  /** Folder of the embedded Postgres; undefined for the one of DATABASE_URL. */
  readonly embeddedPath: string | undefined
}

/** A server that a check needs is not there. */
export class ServerAway extends Error {
  readonly server: 'Postgres' | 'Kafka' | 'Redis'
  readonly advice: string

  constructor(server: ServerAway['server'], message: string, advice: string, cause?: unknown) {
    super(message, { cause })
    this.server = server
    this.advice = advice
  }
}

export const ok = (seen: string): Finding => ({ verdict: 'ok', seen })

export const warn = (seen: string, advice?: string, line?: string): Finding => finding('warn', seen, advice, line)

export const fail = (seen: string, advice?: string, line?: string): Finding => finding('fail', seen, advice, line)

function finding(verdict: Verdict, seen: string, advice?: string, line?: string): Finding {
  return { verdict, seen, ...(advice !== undefined && { advice }), ...(line !== undefined && { line }) }
}

/** The first that holds, from the worst. */
export function worst(verdicts: Iterable<Verdict>): Verdict {
  const all = new Set(verdicts)
  return all.has('fail') ? 'fail' : all.has('warn') ? 'warn' : 'ok'
}
