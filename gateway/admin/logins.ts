import { timingSafeEqual } from 'node:crypto'
import { type AdminRole, findAdminToken } from './registry/admin-tokens.ts'
import type { Client } from './registry/change.ts'
import { hashOf } from './registry/tokens.ts'

/** Whose request it is. */
export interface Login {
  readonly name: string
  readonly role: AdminRole
  /** Sees this tenant alone; absent: all. */
  readonly tenant?: string | undefined
}

/** A token that is in no table: that of the configuration, or of the first start of `up`. */
export interface OwnToken {
  readonly name: 'config' | 'up'
  readonly token: string
}

const cachedMs = 1000
const maxCached = 1000
const maxTokenBytes = 512

/** Finds out whose a token is, by its hash: the time that takes says nothing about tokens that exist. */
export class Logins {
  readonly #own: { readonly name: string; readonly hash: Buffer } | undefined
  readonly #database: Pick<Client, 'query'>
  /** Answers of the last second, also that there is none; keyed by the hash, so that no token stays in memory. */
  readonly #cached = new Map<string, { readonly login: Login | undefined; readonly untilMs: number }>()

  constructor(own: OwnToken | undefined, database: Pick<Client, 'query'>) {
    this.#own = own && { name: own.name, hash: hashOf(own.token) }
    this.#database = database
  }

  /** @throws what the database throws, unless the token is the own one */
  async find(token: string): Promise<Login | undefined> {
    if (Buffer.byteLength(token) > maxTokenBytes) return undefined
    const hash = hashOf(token)
    if (this.#own !== undefined && timingSafeEqual(this.#own.hash, hash)) return { name: this.#own.name, role: 'admin' }
    const key = hash.toString('base64')
    const cached = this.#cached.get(key)
    if (cached !== undefined && cached.untilMs > Date.now()) return cached.login
    const login = await findAdminToken(this.#database, hash)
    if (this.#cached.size >= maxCached) this.#cached.clear()
    this.#cached.set(key, { login, untilMs: Date.now() + cachedMs })
    return login
  }
}
