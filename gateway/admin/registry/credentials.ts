import { hashPassword } from '../../auth/password-hash.ts'
import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction, isoTime } from './change.ts'
import { lockDevice, makeDevice } from './device-lock.ts'
import { checkDeviceId, checkTenantName, checkText } from './names.ts'
import { conflict, invalid, missing } from './refusal.ts'
import { tenantNumber } from './tenants.ts'
import { hashOf, newToken } from './tokens.ts'

export type CredentialRole = 'device' | 'fleet' | 'operator'

/** What a credential is proven by. A token is made here; a password is checked and hashed here. */
export type Proof =
  | { readonly kind: 'token' }
  | { readonly kind: 'password'; readonly password: string }
  | { readonly kind: 'certificate'; readonly fingerprint: Buffer }

export interface NewCredential {
  readonly tenant: string
  readonly device: string
  readonly proof: Proof
  readonly role: CredentialRole
  /** Of a fleet credential: the devices it may speak for; absent: any. */
  readonly pattern?: string | undefined
  readonly name?: string | undefined
  readonly expires?: Date | undefined
  /** Whether the device is made when it is not there. */
  readonly makesDevice: boolean
}

export interface MadeCredential {
  readonly id: string
  readonly device: string
  readonly kind: Proof['kind']
  /** Shown this once. */
  readonly token?: string
}

/** Each is tried in turn for a password, at 32 MiB and some 50 ms; the others only fill tables. */
const maxLive = { token: 50, certificate: 50, password: 4 } as const

/** @throws BridgeError BRIDGE_USAGE */
export async function addCredential(client: Client, by: Change, wanted: NewCredential): Promise<MadeCredential> {
  const { tenant, device, proof, role, pattern, name, expires } = wanted
  checkDeviceId(device)
  checkText('name', name)
  checkPattern(role, pattern)
  if (proof.kind === 'password') checkPassword(proof.password, device)
  const token = proof.kind === 'token' ? newToken() : undefined
  const secretHash = token !== undefined ? hashOf(token) : proof.kind === 'certificate' ? proof.fingerprint : null
  // Before the transaction: it takes long, and holds no lock meanwhile.
  const passwordHash = proof.kind === 'password' ? await hashPassword(proof.password) : null
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, by, tenant)
    if (wanted.makesDevice) await makeDevice(client, by, { tenant, tenantId, device })
    const deviceId = await lockDevice(client, { tenant, tenantId, device })
    await checkRoom(client, deviceId, proof.kind)
    if (proof.kind === 'certificate') await refuseKnownCertificate(client, proof.fingerprint)
    const id = await insertCredential(client, deviceId, {
      kind: proof.kind,
      secretHash,
      passwordHash,
      role,
      pattern: pattern ?? null,
      name: name ?? null,
      expires: expires ?? null,
    })
    const details = { credential: id, kind: proof.kind, role, ...(pattern && { pattern }), ...(expires && { expires }) }
    await writeAudit(client, by, 'credential.add', [{ tenant, subject: device, details }])
    return { id, device, kind: proof.kind, ...(token !== undefined && { token }) }
  })
}

interface Insert {
  readonly kind: Proof['kind']
  readonly secretHash: Buffer | null
  readonly passwordHash: string | null
  readonly role: CredentialRole
  readonly pattern: string | null
  readonly name: string | null
  readonly expires: Date | null
}

export async function insertCredential(client: Client, deviceId: number, row: Insert): Promise<string> {
  const { rows } = await client.query<{ id: string }>(
    `INSERT INTO credential (device_id, kind, secret_hash, password_hash, fleet, operator, pattern, name, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id`,
    [
      deviceId,
      row.kind,
      row.secretHash,
      row.passwordHash,
      row.role === 'fleet',
      row.role === 'operator',
      row.pattern,
      row.name,
      row.expires,
    ],
  )
  return (rows[0] as { id: string }).id
}

/** @throws BridgeError BRIDGE_USAGE when the device has as many live ones of the kind as it may */
export async function checkRoom(client: Client, deviceId: number, kind: Proof['kind']): Promise<void> {
  const { rows } = await client.query<{ live: number }>(
    'SELECT count(*)::int AS live FROM credential WHERE device_id = $1 AND kind = $2 AND revoked_at IS NULL AND coalesce(expires_at > now(), true)',
    [deviceId, kind],
  )
  if ((rows[0]?.live ?? 0) >= maxLive[kind])
    throw conflict(
      `it has ${maxLive[kind]} live credentials of the kind ${kind}, and may have no more. Revoke some first.`,
    )
}

async function refuseKnownCertificate(client: Client, fingerprint: Buffer): Promise<void> {
  const { rows } = await client.query<{ id: string; revoked: boolean }>(
    'SELECT id, revoked_at IS NOT NULL AS revoked FROM credential WHERE secret_hash = $1',
    [fingerprint],
  )
  if (rows[0] !== undefined)
    throw conflict(
      rows[0].revoked
        ? `this certificate was revoked (credential ${rows[0].id}), and stays so. Issue another.`
        : `this certificate is a credential already: ${rows[0].id}`,
    )
}

function checkPattern(role: CredentialRole, pattern: string | undefined): void {
  if (pattern === undefined) return
  if (role !== 'fleet') throw invalid('only a fleet credential has a pattern')
  if (pattern === '' || Buffer.byteLength(pattern) > 256 || /\p{Cc}/u.test(pattern) || !pattern.isWellFormed())
    throw invalid('a pattern has 1 to 256 bytes; * stands for any characters')
}

function checkPassword(password: string, device: string): void {
  const length = [...password].length
  if (length < 8 || Buffer.byteLength(password) > 256)
    throw invalid('a password has 8 characters at least and 256 bytes at most')
  if (/\p{Cc}/u.test(password) || !password.isWellFormed()) throw invalid('a password holds no control characters')
  if (password === device) throw invalid('the password is the name of its device')
  // They would be looked up as such, and never found.
  if (/^fba?_[\w-]{43}$/.test(password) || /^[\w-]+\.[\w-]+\.[\w-]*$/.test(password))
    throw invalid('a password that looks like a token or a JWT cannot be told from one. Choose another.')
}

export interface CredentialRow {
  readonly id: string
  readonly tenant: string
  readonly device: string
  readonly kind: Proof['kind']
  readonly role: CredentialRole
  readonly pattern: string | null
  readonly name: string | null
  /** Neither revoked nor expired; whether its device is enabled is another question. */
  readonly live: boolean
  readonly created: string
  readonly expires: string | null
  readonly revoked: string | null
  readonly lastUsed: string | null
}

export interface CredentialFilter {
  readonly tenant: string
  readonly device?: string | undefined
  /** Only those that are live. */
  readonly live?: boolean | undefined
  readonly limit: number
  /** Only those that sort after this id: the next page. */
  readonly after?: string | undefined
}

/** A page of credentials, without their hashes; a device's in the order they were made, else in the order of their ids. */
export async function listCredentials(
  client: Client,
  { tenant, device, live, limit, after }: CredentialFilter,
): Promise<CredentialRow[]> {
  checkTenantName(tenant)
  if (device !== undefined) checkDeviceId(device)
  if (after !== undefined) checkCredentialId(after)
  const { rows } = await client.query<CredentialRow>(
    `SELECT credential.id, tenant.name AS tenant, external_id AS device, kind,
       CASE WHEN fleet THEN 'fleet' WHEN operator THEN 'operator' ELSE 'device' END AS role, pattern, credential.name,
       revoked_at IS NULL AND coalesce(expires_at > now(), true) AS live,
       ${isoTime('credential.created_at')} AS created, ${isoTime('expires_at')} AS expires, ${isoTime('revoked_at')} AS revoked,
       ${isoTime('last_used_at')} AS "lastUsed"
     FROM credential JOIN device ON device.id = credential.device_id JOIN tenant ON tenant.id = device.tenant_id
     WHERE tenant.name = $1 AND ($2::text IS NULL OR external_id = $2) AND ($3::uuid IS NULL OR credential.id > $3)
       AND (NOT $4 OR (revoked_at IS NULL AND coalesce(expires_at > now(), true)))
     ORDER BY ${device === undefined ? '' : 'credential.created_at, '}credential.id LIMIT $5`,
    [tenant, device ?? null, after ?? null, live ?? false, limit],
  )
  return rows
}

/** What to revoke: one credential by its id or its certificate's fingerprint, or all of a device. */
export type Revocation =
  | { readonly id: string }
  | { readonly tenant: string; readonly device: string }
  /** One of a CA that we trust need not be known here: then it is written down as revoked, under the device. */
  | { readonly tenant: string; readonly device: string; readonly fingerprint: Buffer }

/** @returns how many were live until now @throws BridgeError BRIDGE_USAGE when nothing of that name is there */
export async function revokeCredentials(client: Client, by: Change, what: Revocation): Promise<number> {
  if ('id' in what) checkCredentialId(what.id)
  return await inTransaction(client, async () => {
    if ('id' in what) return await revokeOne(client, by, { id: what.id })
    const { tenant, device } = what
    checkDeviceId(device)
    const tenantId = await tenantNumber(client, { ...by, makesTenants: false }, tenant)
    const deviceId = await lockDevice(client, { tenant, tenantId, device })
    if ('fingerprint' in what) return await revokeCertificate(client, by, { ...what, deviceId })
    const { rows } = await client.query<{ id: string }>(
      'UPDATE credential SET revoked_at = now() WHERE device_id = $1 AND revoked_at IS NULL RETURNING id',
      [deviceId],
    )
    const details = { credentials: rows.map(({ id }) => id) }
    if (rows.length > 0) await writeAudit(client, by, 'credential.revoke', [{ tenant, subject: device, details }])
    return rows.length
  })
}

async function revokeOne(client: Client, by: Change, { id }: { id: string }): Promise<number> {
  const { rows } = await client.query<{ tenant: string; device: string; revoked: boolean }>(
    `SELECT tenant.name AS tenant, external_id AS device, revoked_at IS NOT NULL AS revoked
     FROM credential JOIN device ON device.id = credential.device_id JOIN tenant ON tenant.id = device.tenant_id
     WHERE credential.id = $1 FOR NO KEY UPDATE OF credential`,
    [id],
  )
  const [found] = rows
  if (found === undefined) throw missing(`there is no credential ${id}. List them: npx fleetbridge credentials list`)
  if (found.revoked) return 0
  await client.query('UPDATE credential SET revoked_at = now() WHERE id = $1', [id])
  await writeAudit(client, by, 'credential.revoke', [
    { tenant: found.tenant, subject: found.device, details: { credentials: [id] } },
  ])
  return 1
}

async function revokeCertificate(
  client: Client,
  by: Change,
  { tenant, device, deviceId, fingerprint }: { tenant: string; device: string; deviceId: number; fingerprint: Buffer },
): Promise<number> {
  const { rows } = await client.query<{ id: string; own: boolean }>(
    'SELECT id, device_id = $2 AS own FROM credential WHERE secret_hash = $1',
    [fingerprint, deviceId],
  )
  const [known] = rows
  if (known !== undefined && !known.own) throw conflict(`this certificate belongs to another device: ${known.id}`)
  if (known !== undefined) return await revokeOne(client, by, known)
  const { rows: made } = await client.query<{ id: string }>(
    `INSERT INTO credential (device_id, kind, secret_hash, revoked_at) VALUES ($1, 'certificate', $2, now()) RETURNING id`,
    [deviceId, fingerprint],
  )
  const details = { credentials: made.map(({ id }) => id), fingerprint: fingerprint.toString('hex') }
  await writeAudit(client, by, 'credential.revoke', [{ tenant, subject: device, details }])
  return 1
}

/** @throws BridgeError BRIDGE_USAGE */
export function checkCredentialId(id: string): void {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id))
    throw invalid(
      `${JSON.stringify(id.slice(0, 60))} is no id of a credential, such as 01234567-89ab-cdef-0123-456789abcdef`,
    )
}
