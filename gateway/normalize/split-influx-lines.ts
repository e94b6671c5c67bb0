const lineFeed = 0x0a
const space = 0x20
const quote = 0x22
const hash = 0x23
const comma = 0x2c
const equals = 0x3d
const backslash = 0x5c

/**
 * The lines of a body in line protocol, without blank ones and comments; a quoted text may hold line feeds. The parts share its memory.
 * @returns one more than `maxItems` at most, which means too many
 */
export function splitInfluxLines(body: Buffer, maxItems: number): Buffer[] {
  const lines: Buffer[] = []
  let at = 0
  while (lines.length <= maxItems) {
    while (isBlank(body[at])) at++
    if (at >= body.length) break
    const isComment = body[at] === hash
    const end = isComment ? lineFeedFrom(body, at) : endOfLine(body, at)
    if (!isComment) lines.push(body.subarray(at, trimmedEnd(body, at, end)))
    at = end + 1
  }
  return lines
}

/** Measurement and tags reach to the first space without a backslash; only behind it, right after `=`, does a quotation mark begin a text. */
function endOfLine(body: Buffer, from: number): number {
  let inFields = false
  for (let at = from; at < body.length; at++) {
    const byte = body[at]
    if (byte === lineFeed) return at
    if (byte === backslash && isEscapable(body[at + 1])) at++
    else if (byte === space) inFields = true
    else if (byte === equals && inFields && body[at + 1] === quote) {
      const closing = closingQuote(body, at + 2)
      // One bad line must not take all that follow it along. Not found once, it is not looked for again: another `="` would have been it.
      if (closing < 0) return lineFeedFrom(body, at)
      at = closing
    }
  }
  return body.length
}

function closingQuote(body: Buffer, from: number): number {
  for (let at = from; at < body.length; at++) {
    const byte = body[at]
    if (byte === quote) return at
    if (byte === backslash && (body[at + 1] === quote || body[at + 1] === backslash)) at++
  }
  return -1
}

function lineFeedFrom(body: Buffer, from: number): number {
  const end = body.indexOf(lineFeed, from)
  return end < 0 ? body.length : end
}

function trimmedEnd(body: Buffer, from: number, to: number): number {
  let end = to
  while (end > from && body[end - 1] === 0x0d) end--
  return end
}

const isEscapable = (byte: number | undefined) => byte === comma || byte === space || byte === equals
const isBlank = (byte: number | undefined) => byte === space || byte === lineFeed || byte === 0x0d
