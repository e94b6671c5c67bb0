import { invalid } from './refusal.ts'

/** @throws BridgeError BRIDGE_USAGE that says which rule the id breaks */
export function checkDeviceId(id: string): void {
  const broken = brokenRule(id)
  if (broken !== undefined)
    throw invalid(`the device id ${JSON.stringify(id.slice(0, 140))} ${broken}. Choose another.`)
}

/** Which rule of device ids this one breaks, as the end of a sentence. */
export function brokenRule(id: string): string | undefined {
  const bytes = Buffer.byteLength(id)
  if (bytes < 1 || bytes > 128) return `has ${bytes} bytes, and 1 to 128 are allowed`
  if (/[+#]/.test(id)) return 'holds + or #, which MQTT keeps for filters'
  if (id.startsWith('$')) return 'begins with $'
  if (/\p{Cc}/u.test(id)) return 'holds a control character'
  // Postgres would keep another text than was given.
  if (!id.isWellFormed() || id.includes('\ufffd')) return 'is not valid UTF-8'
  return undefined
}

/** @throws BridgeError BRIDGE_USAGE */
export function checkTenantName(name: string): void {
  if (!/^[a-z0-9-]{1,63}$/.test(name))
    throw invalid(`the tenant ${JSON.stringify(name.slice(0, 80))} is not 1 to 63 of a-z, 0-9 and -`)
}

/** Which rule a type, site or other free text breaks, as the end of a sentence. */
export function brokenText(text: string): string | undefined {
  if (Buffer.byteLength(text) > 128) return 'has more than 128 bytes'
  if (/\p{Cc}/u.test(text)) return 'holds a control character'
  if (!text.isWellFormed() || text.includes('\ufffd')) return 'is not valid UTF-8'
  return undefined
}

/** @throws BridgeError BRIDGE_USAGE that names the member */
export function checkText(what: string, text: string | null | undefined): void {
  const broken = text === null || text === undefined ? undefined : brokenText(text)
  if (broken !== undefined) throw invalid(`the ${what} ${JSON.stringify(text?.slice(0, 140))} ${broken}`)
}
