import type { Readable } from 'node:stream'
import type { Static, TObject, TSchema } from 'typebox'
import type { Replayer } from '../dead-letters/replayer.ts'
import type { LimitInspector } from '../rate-limit/limit-inspector.ts'
import type { Exports } from './exports.ts'
import type { Login } from './logins.ts'
import type { AdminRole } from './registry/admin-tokens.ts'
import type { Change, Client } from './registry/change.ts'

/** What a handler gets. A tenant that is not there is never made on the way: that is for the role admin. */
export interface AdminRequest<Params, Query, Body> {
  readonly params: Params
  readonly query: Query
  readonly body: Body
  readonly login: Login
  readonly by: Change
  /** One connection, for this request alone. */
  readonly client: Client
  /** The limits of the gateway in this process. */
  readonly limits: LimitInspector | undefined
  readonly exports: Exports
  /** Sends dead letters down the path of this gateway; undefined where the API runs without one. */
  readonly replayer: Replayer | undefined
}

export interface AdminRoute {
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** Below /admin/v1. */
  readonly path: string
  /** The least role that may. */
  readonly role: AdminRole
  readonly tag: string
  readonly summary: string
  readonly params?: TObject | undefined
  readonly query?: TObject | undefined
  readonly body?: TSchema | undefined
  /** Absent: JSON. */
  readonly consumes?: string | undefined
  readonly status: 200 | 201
  /** Its `tenant` (in the query) decides whose it shows, so tokens of one tenant may use it. */
  readonly ofTenant?: boolean | undefined
  readonly response: TSchema
  /** Content types of an answer that is a stream. */
  readonly streams?: readonly string[] | undefined
  readonly handle: (request: AdminRequest<never, never, never>) => Promise<unknown>
}

/** What a handler gives whose answer is no JSON. */
export class Streamed {
  readonly contentType: string
  readonly body: Readable

  constructor(contentType: string, body: Readable) {
    this.contentType = contentType
    this.body = body
  }
}

type Known<Schema> = Schema extends TSchema ? Static<Schema> : undefined

/** Ties the types of a handler to the schemas that its request was checked against. */
export function adminRoute<
  Response extends TSchema,
  Params extends TObject | undefined = undefined,
  Query extends TObject | undefined = undefined,
  Body extends TSchema | undefined = undefined,
>(
  route: Omit<AdminRoute, 'params' | 'query' | 'body' | 'response' | 'handle'> & {
    readonly params?: Params
    readonly query?: Query
    readonly body?: Body
    readonly response: Response
    readonly handle: (request: AdminRequest<Known<Params>, Known<Query>, Known<Body>>) => Promise<Static<Response>>
  },
): AdminRoute {
  return route as unknown as AdminRoute
}

const ranks: Record<AdminRole, number> = { viewer: 0, operator: 1, admin: 2 }

export function mayDo(role: AdminRole, least: AdminRole): boolean {
  return ranks[role] >= ranks[least]
}
