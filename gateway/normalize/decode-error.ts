import type { DecodeCode } from '#schema/reason-code.ts'

/** How a codec gives up. No Error, since its stack trace costs more than decoding: garbage must not be dearer than good messages. */
export class DecodeError {
  readonly code: DecodeCode
  /** One line for people. What it quotes of the input went through `quoted`. */
  readonly message: string
  /** As in `Decoded`. */
  readonly unborn: string | undefined

  constructor(code: DecodeCode, message: string, unborn?: string) {
    this.code = code
    this.message = message
    this.unborn = unborn
  }
}
