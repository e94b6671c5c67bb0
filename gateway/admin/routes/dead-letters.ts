import Type from 'typebox'
import {
  countLetters,
  type LetterFilter,
  type LetterState,
  listLetters,
  purgeLetters,
  showLetter,
} from '../registry/dead-letters.ts'
import { conflict } from '../registry/refusal.ts'
import { maxReplayed, replayLetters } from '../replay-letters.ts'
import { adminRoute } from '../route.ts'
import { credentialId, deviceId, limit, limitOf, nullable, strict, tenantOfQuery } from '../schemas.ts'

const tag = 'dead letters'
const moment = Type.Optional(
  Type.String({
    minLength: 2,
    maxLength: 40,
    description: '2h ago, or a time such as 2030-01-31T12:00:00Z; of the arrival',
  }),
)
const filter = {
  tenant: Type.Optional(Type.String({ ...tenantOfQuery, description: 'all tenants when absent' })),
  device: Type.Optional(deviceId),
  code: Type.Optional(Type.String({ pattern: '^[a-z_]{1,40}$' })),
  topic: Type.Optional(
    Type.String({ minLength: 1, maxLength: 2048, description: 'topic or path; with * at its end all that begin so' }),
  ),
  since: moment,
  until: moment,
}
const ids = Type.Optional(Type.Array(credentialId, { minItems: 1, maxItems: 1000 }))
const state = Type.Optional(Type.Enum(['waiting', 'replayed', 'all']))
const id = Type.String()
const row = {
  id,
  arrived: Type.String(),
  tenant: Type.String(),
  device: Type.String(),
  source: Type.String(),
  topic: nullable(),
  stage: Type.String({ description: 'decode: the gateway gave up; store: the worker' }),
  code: Type.String(),
  message: Type.String({ description: 'may quote a few characters of the payload' }),
  bytes: Type.Union([Type.Integer(), Type.Null()]),
  acknowledged: Type.Boolean({ description: 'whether the sender was told that we have it' }),
  replayed: nullable(),
  outcome: nullable('of the last replay: stored, duplicate, ignored, parked'),
}

export const deadLetterRoutes = [
  adminRoute({
    method: 'GET',
    path: '/dead-letters',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary:
      'Dead letters without their bytes, the newest first; `next` is the `after` of the next page, null at the end',
    query: strict({ ...filter, state, after: Type.Optional(credentialId), limit }),
    status: 200,
    response: Type.Object({ deadLetters: Type.Array(Type.Object(row)), next: nullable() }),
    async handle({ client, query: { limit, after, state = 'waiting', ...filter } }) {
      const most = limitOf(limit)
      const rows = await listLetters(client, filter, { limit: most + 1, after, state: state as LetterState })
      const deadLetters = rows.slice(0, most)
      return { deadLetters, next: rows.length > most ? (deadLetters.at(-1)?.id ?? null) : null }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/dead-letters/codes',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary: 'How many dead letters there are of each code, and their bytes',
    query: strict({ ...filter, state }),
    status: 200,
    response: Type.Object({
      codes: Type.Array(Type.Object({ code: Type.String(), letters: Type.Integer(), bytes: Type.Number() })),
    }),
    async handle({ client, query: { state = 'waiting', ...filter } }) {
      return { codes: await countLetters(client, filter, state as LetterState) }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/dead-letters/:id',
    role: 'operator',
    tag,
    summary: 'A dead letter with its bytes, in base64: they are what a device sent, and may hold secrets',
    params: strict({ id: credentialId }),
    status: 200,
    response: Type.Object({
      ...row,
      contentType: nullable(),
      context: Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]),
      payload: nullable('null: the bytes were not kept'),
    }),
    async handle({ client, params: { id } }) {
      const { payload, context, ...letter } = await showLetter(client, id)
      return {
        ...letter,
        context: context as Record<string, unknown> | null,
        payload: payload?.toString('base64') ?? null,
      }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/dead-letters/replay',
    role: 'operator',
    tag,
    summary: `Send those that wait down the path once more, the oldest first, at most ${maxReplayed} a request; safe to repeat`,
    body: strict({
      ...filter,
      ids,
      after: Type.Optional(credentialId),
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: maxReplayed })),
      dryRun: Type.Optional(Type.Boolean({ description: 'nothing is sent; stored then means readable' })),
    }),
    status: 200,
    response: Type.Object({
      letters: Type.Integer(),
      stored: Type.Integer(),
      duplicate: Type.Integer({ description: 'stored before' }),
      ignored: Type.Integer({ description: 'without a reading' }),
      parked: Type.Integer({ description: 'still not to be read, or not allowed' }),
      pending: Type.Integer({ description: 'in the event log, and not written yet' }),
      reasons: Type.Array(Type.Object({ code: Type.String(), message: Type.String(), letters: Type.Integer() })),
      next: nullable(),
    }),
    async handle({ client, by, replayer, body: { after, limit = maxReplayed, dryRun = false, ...filter } }) {
      if (replayer === undefined) throw conflict('this process has no gateway; ask one that has')
      const answer = await replayLetters(client, by, replayer, filter as LetterFilter, { after, limit, dryRun })
      return { ...answer, reasons: [...answer.reasons] }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/dead-letters/purge',
    role: 'admin',
    tag,
    summary: 'Delete dead letters with their bytes',
    body: strict({
      ...filter,
      ids,
      state,
      all: Type.Optional(Type.Literal(true, { description: 'needed where nothing else says which' })),
      dryRun: Type.Optional(Type.Boolean()),
    }),
    status: 200,
    response: Type.Object({ purged: Type.Integer() }),
    async handle({ client, by, body: { state = 'all', dryRun = false, all = false, ...filter } }) {
      return {
        purged: await purgeLetters(client, by, filter as LetterFilter, { state: state as LetterState, dryRun, all }),
      }
    },
  }),
]
