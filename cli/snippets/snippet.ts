import { arduino } from './arduino.ts'
import { curl } from './curl.ts'
import { espIdf } from './esp-idf.ts'
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

export type Platform = keyof typeof templates

/** Each is a whole program for its platform, with the settings under which an acknowledgement means what we promise. */
const templates = { 'esp-idf': espIdf, arduino, micropython, python, curl } as const

export const platforms = Object.keys(templates) as Platform[]

/** Those have no store of known authorities: over TLS they need the certificate of ours. */
export const needsAuthority: ReadonlySet<Platform> = new Set<Platform>(['arduino', 'micropython'])

export function snippetFor(platform: Platform, facts: SnippetFacts): string {
  return templates[platform](facts)
}
