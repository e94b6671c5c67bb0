import { vi } from 'vitest'

// vitest gives up after 1 s, which a machine with three test files at once may need for a first row.
const { waitFor } = vi
vi.waitFor = (callback, options) => waitFor(callback, options ?? { timeout: 10_000 })
