import { arduino } from './arduino.ts'
import { homeAssistant, telegraf, zigbee2mqtt } from './bridges.ts'
import { curl } from './curl.ts'
import { espIdf } from './esp-idf.ts'
import { esphome, shelly, tasmota } from './firmware.ts'
import { micropython } from './micropython.ts'
import { python } from './python.ts'

/** Where a device finds the gateway, and who it is there. */
export interface SnippetFacts {
  /** A name or address, an IPv6 one without brackets. */
  readonly host: string
  readonly mqttPort: number
  /** There when the gateway has TLS; the snippet then uses nothing else. */
  readonly mqttTlsPort?: number
  readonly httpUrl: string
  readonly httpsUrl?: string
  /** The authority that signed the gateway's certificate; absent: one that systems know. */
  readonly ca?: { readonly file: string; readonly pem: string }
  readonly device: string
  readonly token: string
}

export type Program = keyof typeof programTemplates
export type Settings = keyof typeof settingsTemplates
export type Platform = Program | Settings

/** Each is a whole program for its platform, with the settings under which an acknowledgement means what we promise. */
const programTemplates = { 'esp-idf': espIdf, arduino, micropython, python, curl } as const

/** What to enter into firmware and software that is there, which speaks as it always does. */
const settingsTemplates = { tasmota, zigbee2mqtt, shelly, esphome, telegraf, 'home-assistant': homeAssistant } as const

const templates = { ...programTemplates, ...settingsTemplates }

export const programs = Object.keys(programTemplates) as Program[]
export const settings = Object.keys(settingsTemplates) as Settings[]
export const platforms: readonly Platform[] = [...programs, ...settings]

/**
 * Those publish to topics of their own, so they need a fleet credential: `own` speaks for that device alone, `any` for all that come behind it.
 */
export const fleetOf: ReadonlyMap<Platform, 'own' | 'any'> = new Map<Platform, 'own' | 'any'>([
  ['tasmota', 'own'],
  ['shelly', 'own'],
  ['esphome', 'own'],
  ['zigbee2mqtt', 'any'],
])

/** Those have no store of known authorities: over TLS they need the certificate of ours. */
export const needsAuthority: ReadonlySet<Platform> = new Set<Platform>(['arduino', 'micropython'])

export function snippetFor(platform: Platform, facts: SnippetFacts): string {
  return templates[platform](facts)
}
