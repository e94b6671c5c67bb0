const maxQuoted = 40
const maxMessage = 200

/** Input for a message to people: short, on one line, printable whatever it holds. */
export function quoted(input: string): string {
  const shown = printable(input.slice(0, maxQuoted))
  return input.length > maxQuoted ? `"${shown}…"` : `"${shown}"`
}

/** Every character that does not show as itself becomes `?`, halves of surrogate pairs (in \p{C}) included. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}\ufffd]/gu, '?')
}

/** The last bound on what a dead letter says, for messages that other people's code made. */
export function oneLine(message: string): string {
  return message.length > maxMessage ? `${message.slice(0, maxMessage - 1)}…` : message
}
