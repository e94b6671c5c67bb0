import type { Source } from '#schema/telemetry-event.ts'
import type { CarriedHeaders } from '../ingress.ts'
import type { CodecOptions } from './codec-options.ts'
import type { EdgeNodes } from './edge-nodes.ts'
import { parseJson, utf8Text } from './json.ts'

/** What a codec may know besides the bytes. */
export interface CodecContext {
  readonly transport: Source
  /** MQTT topic name, or the path of the request with its query. */
  readonly topic: string
  readonly contentType: string | undefined
  /** The request's headers that say something of the message. */
  readonly headers: CarriedHeaders | undefined
  readonly tenant: string
  /** Who sends: `me`, and the device where neither payload nor topic names one. */
  readonly transportDevice: string | undefined
  /** The device that the path or the fleet body named. */
  readonly device: string | undefined
  /** Whether the sender may speak for other devices. */
  readonly fleet: boolean
  /** One element of an array that was split: only an object will do. */
  readonly arrayElement: boolean
  /** When it arrived, in microseconds, for times that are relative to now. */
  readonly arrivalUs: number
  /** What a route tells the codec that it names. */
  readonly options?: CodecOptions | undefined
  /** What Sparkplug's births have told. */
  readonly edgeNodes: EdgeNodes
}

/** One message for the codecs. Text and JSON are made once, when the first of them asks, so choosing a codec by the shape of a body costs no second parse. */
export class CodecInput {
  readonly payload: Buffer
  readonly context: CodecContext
  #text: string | undefined = undefined
  #json: unknown = undefined

  constructor(payload: Buffer, context: CodecContext) {
    this.payload = payload
    this.context = context
  }

  /** The payload as UTF-8 without the ASCII white space around it; never empty. */
  text(): string {
    this.#text ??= utf8Text(this.payload)
    return this.#text
  }

  /** Whether the text can only be a JSON object or array. */
  isDocument(): boolean {
    const first = this.text().charCodeAt(0)
    return first === openBrace || first === openBracket
  }

  json(): unknown {
    this.#json ??= parseJson(this.text())
    return this.#json
  }
}

const openBrace = 0x7b
const openBracket = 0x5b
