import { afterEach, vi } from 'vitest'
import { describeServers, reviveServers } from './servers/server-process.ts'

// vitest gives up after 1 s, which a machine with three test files at once may need for a first row.
const { waitFor } = vi
vi.waitFor = (callback, options) => waitFor(callback, options ?? { timeout: 10_000 })

// A test that failed while it had a server frozen or killed must not fail all that follow it in the file.
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return
  const servers = describeServers()
  if (servers === '') return
  console.error(`after "${task.name}":\n${servers}`)
  await reviveServers()
})
