#!/usr/bin/env node
// Plain JavaScript that Node 20 understands: finds a Node that runs our TypeScript as it is, and starts cli/main.ts with it.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import module, { createRequire } from 'node:module'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
// What V8 keeps for the newest objects grows to 128 MB otherwise; a gateway is as fast with a quarter of it.
const youngMemory = '--max-semi-space-size=16'

if (Number.parseInt(process.versions.node, 10) < 24) runWithPackagedNode()
else if (!becomesSmaller()) {
  // Without types and compiled, from the second start on: half of what a start costs. Where the folder may not be written, nothing is kept.
  module.enableCompileCache(join(root, 'node_modules/.cache/fleetbridge'))
  await import('../cli/main.ts')
}

/** Becomes the same program with less memory, where that is possible and nobody has said otherwise; false: it goes on as it is. */
function becomesSmaller() {
  const said = [...process.execArgv, process.env.NODE_OPTIONS ?? ''].join(' ')
  if (!servesForLong() || said.includes('semi-space') || process.execve === undefined || process.send !== undefined)
    return false
  become(process.execPath, [...process.execArgv, youngMemory, ...process.argv.slice(1)])
  return true
}

function servesForLong() {
  return ['up', 'gateway'].includes(process.argv[2])
}

function become(node, args) {
  process.removeAllListeners('warning') // it is experimental there; what can fail is that it does not start, which throws
  process.execve(node, [node, ...args], process.env)
}

function runWithPackagedNode() {
  const node = packagedNode()
  if (node === undefined) {
    process.stderr.write(
      `fleetbridge needs Node 24, and this is ${process.versions.node}. The packaged Node 24 is missing:\n` +
        'run "npm ci" in the fleetbridge folder without --ignore-scripts, or install Node 24 (https://nodejs.org).\n',
    )
    process.exitCode = 1
    return
  }
  const args = [...(servesForLong() ? [youngMemory] : []), fileURLToPath(import.meta.url), ...process.argv.slice(2)]
  // Node 22.15 and later can become the other program: one process id, nothing to pass on.
  if (process.execve !== undefined) become(node, args)
  // The pipe closes with this process, however it ends, and then the other one ends too: a killed fleetbridge leaves no gateway behind.
  const child = spawn(node, args, {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { ...process.env, FLEETBRIDGE_PARENT_FD: '3' },
  })
  // A terminal sends Ctrl-C to both.
  process.on('SIGINT', () => {
    if (!process.stdin.isTTY) child.kill('SIGINT')
  })
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    process.stderr.write(`the packaged Node 24 (${node}) does not start: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]))
}

function packagedNode() {
  try {
    const folder = dirname(createRequire(import.meta.url).resolve('node/package.json'))
    const path = join(folder, 'bin', 'node')
    return existsSync(path) ? path : undefined
  } catch {
    return undefined
  }
}
