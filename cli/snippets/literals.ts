// A device id may hold quotes, backslashes and any letter; a snippet must stay the program that we wrote.

/** What a reader sees as it is. Left out: control, format (they reorder text), private and unassigned characters, separators but the space. */
const plain = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u

/** A string literal of C and C++, in UTF-8. Three octal digits end by themselves; two question marks would begin a trigraph. */
export function cString(text: string): string {
  return literal(text, (character) =>
    [...Buffer.from(character)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join(''),
  ).replaceAll(/\?(?=\?)|(?<=\?)\?/g, '\\?')
}

/** A string literal of Python and MicroPython. */
export function pythonString(text: string): string {
  return literal(text, (character) => `\\U${(character.codePointAt(0) as number).toString(16).padStart(8, '0')}`)
}

/** For a comment of one line. The quotes keep a backslash off the line's end, where C would go on with the next one. */
export function inComment(text: string): string {
  return `"${[...text].map((character) => (plain.test(character) ? character : '?')).join('')}"`
}

/** A PEM file as one C string literal a line. */
export function cLines(pem: string): string {
  return pem
    .trim()
    .split(/\r?\n/)
    .map((line) => `    ${cString(line).slice(0, -1)}\\n"`)
    .join('\n')
}

function literal(text: string, escaped: (character: string) => string): string {
  const parts = [...text].map((character) =>
    character === '"' || character === '\\' ? `\\${character}` : plain.test(character) ? character : escaped(character),
  )
  return `"${parts.join('')}"`
}
