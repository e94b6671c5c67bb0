/** An integer of a format that knows more digits than a double: a number where that loses nothing, else its decimal digits. */
export function exactInteger(value: bigint): number | string {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : String(value)
}
