/** Spellings from the field and their SenML (RFC 8428) or UCUM names. Symbols match exactly, since `m` is no `M`. */
const symbols = new Map([
  ['C', 'Cel'],
  ['°C', 'Cel'],
  ['degC', 'Cel'],
  ['F', '[degF]'],
  ['°F', '[degF]'],
  ['degF', '[degF]'],
  ['K', 'K'],
  ['%', '%'],
  ['V', 'V'],
  ['A', 'A'],
  ['W', 'W'],
  ['lx', 'lx'],
  ['hPa', 'hPa'],
])

/** Words match in any case. */
const words = new Map([
  ['celsius', 'Cel'],
  ['fahrenheit', '[degF]'],
  ['kelvin', 'K'],
  ['percent', '%'],
  ['volt', 'V'],
  ['volts', 'V'],
  ['amp', 'A'],
  ['amps', 'A'],
  ['ampere', 'A'],
  ['amperes', 'A'],
  ['watt', 'W'],
  ['watts', 'W'],
  ['lux', 'lx'],
  ['mbar', 'hPa'],
])

const longestWord = 10

/** The name of a unit that was written by people; what is not known stays as it is, and `""` is no unit. */
export function unitOf(text: string): string | undefined {
  if (text === '') return undefined
  const symbol = symbols.get(text)
  if (symbol !== undefined) return symbol
  return text.length > longestWord ? text : (words.get(text.toLowerCase()) ?? text)
}
