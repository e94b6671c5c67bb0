import type { Source } from '#schema/telemetry-event.ts'
import type { Codec } from '../normalize/codec.ts'
import type { CodecOptions } from '../normalize/codec-options.ts'
import type { DeviceTemplate } from './device-template.ts'
import type { ReadingMapping } from './reading-mapping.ts'

/** One entry of the route table, read and checked. What an entry does not say is undefined, and then the default order decides. */
export interface RouteRule {
  readonly source: Source
  /** The topic filter or the path, by levels: `+` is any one level, `#` at the end all that follow. */
  readonly levels: readonly string[]
  /** Only messages that declare this media type. */
  readonly contentType?: string | undefined
  /** Only messages of this tenant. */
  readonly tenant?: string | undefined
  readonly codec?: Codec | undefined
  readonly options?: CodecOptions | undefined
  readonly device?: DeviceTemplate | undefined
  /** What a duplicate is: the same readings (as when absent), or only the same message. */
  readonly identity?: 'reading' | 'message' | undefined
  readonly mapping?: ReadingMapping | undefined
  /** Days that the bytes of its messages are kept beside their readings, to be decoded again. */
  readonly keepRawDays?: number | undefined
}
