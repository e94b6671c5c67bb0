/** Why a request was refused; docs/admin.md explains each. */
export const adminProblems = {
  invalid: { status: 400, title: 'Not a request that can be done' },
  not_authenticated: { status: 401, title: 'Wrong or no token' },
  not_allowed: { status: 403, title: 'Not allowed for the role of this token' },
  not_found: { status: 404, title: 'Not found' },
  conflict: { status: 409, title: 'What is there stands against it' },
  too_large: { status: 413, title: 'Too large' },
  unsupported: { status: 415, title: 'Unsupported content type' },
  too_slow: { status: 503, title: 'It takes too long' },
  database_unavailable: { status: 503, title: 'The database does not answer' },
  event_log_unavailable: { status: 503, title: 'The event log does not answer' },
  internal: { status: 500, title: 'Internal error' },
} as const

export type AdminProblemCode = keyof typeof adminProblems

export interface AdminProblem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly instance: string
  readonly code: AdminProblemCode
  readonly errors?: readonly { readonly at: string; readonly message: string }[]
}

/** A problem document (RFC 9457). */
export function adminProblem(
  code: AdminProblemCode,
  { detail, id, errors }: { detail: string; id: string; errors?: AdminProblem['errors'] | undefined },
): AdminProblem {
  const { status, title } = adminProblems[code]
  return {
    type: `urn:fleetbridge:problem:admin:${code}`,
    title,
    status,
    detail,
    instance: `urn:uuid:${id}`,
    code,
    ...(errors !== undefined && { errors }),
  }
}
