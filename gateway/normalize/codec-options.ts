/** What a route may tell a codec. */
export interface CodecOptions {
  /** influx-line: the unit of timestamps where the request names none: ns, us, ms, s, m, h. */
  readonly precision?: string | undefined
  /** influx-line: the tags that name the device, the first that exists. */
  readonly deviceTags?: readonly string[] | undefined
  /** influx-line: false leaves the other tags out of the metrics' names. */
  readonly tagsInNames?: boolean | undefined
}

/** What a value of an option must be, as a check and in words. */
export interface OptionRule {
  readonly isValid: (value: unknown) => boolean
  readonly words: string
}

const isName = (value: unknown) => typeof value === 'string' && value !== ''

/** Options by the codec that has them; a codec that is not here has none. */
export const codecOptions: ReadonlyMap<string, ReadonlyMap<keyof CodecOptions, OptionRule>> = new Map([
  [
    'influx-line',
    new Map<keyof CodecOptions, OptionRule>([
      [
        'precision',
        {
          isValid: (value) => ['ns', 'us', 'ms', 's', 'm', 'h'].includes(value as string),
          words: 'ns, us, ms, s, m or h',
        },
      ],
      [
        'deviceTags',
        {
          isValid: (value) => Array.isArray(value) && value.length > 0 && value.length <= 16 && value.every(isName),
          words: 'a list of 1 to 16 tag keys',
        },
      ],
      ['tagsInNames', { isValid: (value) => typeof value === 'boolean', words: 'true or false' }],
    ]),
  ],
])
