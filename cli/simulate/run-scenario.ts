import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import * as devices from '#gateway/admin/registry/devices.ts'
import { loadConfig } from '#platform/config.ts'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { audit, waitUntilStored } from '#simulator/audit/audit.ts'
import { readJournals } from '#simulator/audit/read-journal.ts'
import { parseDurationMs } from '#simulator/duration.ts'
import { type FleetReport, fleetReport, fleetReportText } from '#simulator/fleet/fleet-report.ts'
import type { FleetLogin, Places } from '#simulator/fleet/run-fleet.ts'
import { runFleets } from '#simulator/fleet/run-fleets.ts'
import { readScenario, type Scenario } from '#simulator/scenario/scenario.ts'
import { htmlReport } from '#simulator/view/html-report.ts'
import { createLiveView } from '#simulator/view/live-view.ts'
import { withDatabase } from '../database.ts'
import { findInstance } from '../instance.ts'
import { print, printJson } from '../output.ts'
import { addDevices, byUser } from '../registry.ts'
import { csvLogins } from './csv-logins.ts'
import { neededDatabase, openRowsPool } from './rows-database.ts'

export interface ScenarioFlags {
  readonly scenario: string
  /** Scales the groups; undefined: as the scenario says. */
  readonly devices: number | undefined
  readonly durationMs: number | undefined
  readonly urls: readonly URL[]
  readonly csv: string | undefined
  readonly databaseUrl: string | undefined
  readonly seed: number
  readonly run: string
  readonly workers: number
  readonly journal: string | undefined
  readonly json: string | true | undefined
  readonly html: string | undefined
  readonly ca: string | undefined
  readonly cleanup: boolean
  readonly verify: boolean
  readonly drainMs: number
  readonly settleMs: number
  readonly signal: AbortSignal
}

const tenant = 'default'
/** Gateways hear of new devices a moment later, of very many a little later still. */
const registryMs = 1000
const builtIns = fileURLToPath(new URL('../../simulator/scenario/built-in/', import.meta.url))

/** Lets the devices of a scenario live for a time, audits their journal, and reports. */
export async function runScenario(flags: ScenarioFlags): Promise<void> {
  const scenario = scaled(loadScenario(flags.scenario), flags.devices)
  const config = loadConfig(process.env)
  const instance = findInstance(config.dataDir)
  const places = placesOf(scenario, flags.urls, { ...defaultPlaces(config), ...instance })
  const databaseUrl = flags.databaseUrl ?? config.database.url ?? instance?.databaseUrl
  const logins = await loginsOf(scenario, flags, databaseUrl)
  const durationMs = flags.durationMs ?? (parseDurationMs(scenario.duration) as number)
  const folder = flags.journal === undefined ? mkdtempSync(join(tmpdir(), 'fleetbridge-journal-')) : undefined
  const journalPath = flags.journal ?? join(folder as string, 'journal')
  if (existsSync(journalPath) || existsSync(`${journalPath}.1`))
    throw new BridgeError('BRIDGE_USAGE', `--journal ${journalPath} is there already: a journal is of one run`)
  const view = createLiveView(process.stderr, {
    title: `${scenario.name}: ${logins.length} devices, run ${flags.run}, seed ${flags.seed}`,
    durationMs,
    devices: logins.length,
  })
  const startedUs = Date.now() * 1000
  try {
    const result = await runFleets({
      scenario,
      seed: flags.seed,
      run: flags.run,
      tenant,
      logins,
      places,
      ca: flags.ca === undefined ? undefined : readFileSync(flags.ca),
      durationMs,
      drainMs: flags.drainMs,
      journalPath,
      startedUs,
      processes: flags.workers,
      onSecond: (second, soFar) => view.second(second, soFar),
      signal: flags.signal,
    }).finally(() => view.end())
    const audited = flags.verify ? await auditOf(result.journals, neededDatabase(databaseUrl), flags.settleMs) : null
    const about = {
      run: flags.run,
      scenario: scenario.name,
      seed: flags.seed,
      devices: logins.length,
      startedUs,
      processes: flags.workers,
    }
    await tell(
      fleetReport(about, { ...result, journals: flags.journal === undefined ? [] : result.journals }, audited),
      flags,
    )
    if (audited?.ok === false) process.exitCode = 1
    if (folder !== undefined && audited?.ok === false)
      process.stderr.write(`the journal is kept: npx fleetbridge audit --journal ${result.journals.join(' ')}\n`)
    else if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  } finally {
    if (flags.cleanup && flags.csv === undefined) await remove(neededDatabase(databaseUrl), logins)
  }
}

async function auditOf(journals: readonly string[], databaseUrl: string, settleMs: number) {
  const journal = await readJournals(journals)
  const pool = openRowsPool(databaseUrl)
  try {
    process.stderr.write('comparing with the rows\n')
    await waitUntilStored(pool, journal, { quietMs: Math.min(15_000, settleMs), timeoutMs: settleMs })
    return await audit(pool, journal)
  } finally {
    await pool.end()
  }
}

async function tell(report: FleetReport, { json, html }: ScenarioFlags): Promise<void> {
  if (html !== undefined) writeFileSync(html, htmlReport(report))
  if (typeof json === 'string') writeFileSync(json, `${JSON.stringify(report)}\n`)
  if (json === true) await printJson(report)
  else await print(fleetReportText(report))
}

/** Names of the scenarios that are built in. */
export function builtInScenarios(): string[] {
  return readdirSync(builtIns)
    .map((file) => file.replace(/\.yaml$/, ''))
    .sort()
}

function loadScenario(name: string): Scenario {
  const file = builtInScenarios().includes(name) ? join(builtIns, `${name}.yaml`) : name
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new BridgeError(
      'BRIDGE_USAGE',
      `--scenario ${name} is neither a file nor one of ${builtInScenarios().join(', ')}: ${(error as Error).message}`,
      { cause: error },
    )
  }
  return readScenario(text, file)
}

/** The same mix with another number of devices; every group keeps at least one. */
function scaled(scenario: Scenario, devices: number | undefined): Scenario {
  if (devices === undefined) return scenario
  const total = scenario.groups.reduce((sum, group) => sum + group.devices, 0)
  if (devices < scenario.groups.length)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `--devices must be at least ${scenario.groups.length}: ${scenario.name} has so many groups`,
    )
  const groups = scenario.groups.map((group) => ({
    ...group,
    devices: Math.max(1, Math.floor((group.devices * devices) / total)),
  }))
  // What rounding left over goes to the largest.
  const largest = groups.reduce((one, other) => (other.devices > one.devices ? other : one))
  largest.devices += devices - groups.reduce((sum, group) => sum + group.devices, 0)
  return { ...scenario, groups }
}

function defaultPlaces({ mqtt, http }: Config): Places {
  return {
    mqtt: `mqtt://127.0.0.1:${mqtt.port}`,
    mqtts: `mqtts://127.0.0.1:${mqtt.tlsPort}`,
    ws: `ws://127.0.0.1:${http.port}/mqtt`,
    wss: `wss://127.0.0.1:${http.tlsPort}/mqtt`,
    http: `http://127.0.0.1:${http.port}`,
    https: `https://127.0.0.1:${http.tlsPort}`,
  }
}

/** Where each transport of the scenario leads; ws is where http is when only that is given. */
function placesOf(
  scenario: Scenario,
  urls: readonly URL[],
  known: { readonly [Way in keyof Places]?: string | null | undefined },
): Places {
  const given = new Map(urls.map((url) => [url.protocol.slice(0, -1), url.href.replace(/\/$/, '')]))
  for (const [way, from] of [
    ['ws', 'http'],
    ['wss', 'https'],
  ] as const)
    if (!given.has(way) && given.has(from)) given.set(way, `${(given.get(from) as string).replace(from, way)}/mqtt`)
  const places: Record<string, string> = {}
  for (const { name, transport } of scenario.groups) {
    const way = transport.replace('5', '') as keyof Places
    const place = given.get(way) ?? known[way]
    if (place === undefined || place === null)
      throw new BridgeError(
        'BRIDGE_USAGE',
        `group ${name} sends over ${transport}, which does not run here: say where with --url ${way}://host:port`,
      )
    places[way] = place
  }
  return places
}

async function loginsOf(
  scenario: Scenario,
  { csv, run }: ScenarioFlags,
  databaseUrl: string | undefined,
): Promise<FleetLogin[]> {
  const groups = scenario.groups.flatMap(({ name, devices: count }) =>
    Array.from({ length: count }, (_, index) => ({ group: name, id: `sim-${run}-${name}-${index + 1}` })),
  )
  if (csv === undefined) {
    const added = await withDatabase(neededDatabase(databaseUrl), (client) =>
      addDevices(
        client,
        tenant,
        groups.map(({ id }) => id),
      ),
    )
    await sleep(registryMs)
    return groups.map(({ group, id }, index) => ({ group, id, token: (added[index] as { token: string }).token }))
  }
  const known = csvLogins(csv)
  if (known.length < groups.length)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `--csv ${csv} has ${known.length} devices, and ${scenario.name} needs ${groups.length}: give --devices ${known.length}`,
    )
  return groups.map(({ group }, index) => {
    const { device, token } = known[index] as { device: string; token: string }
    return { group, id: device, token }
  })
}

async function remove(databaseUrl: string, logins: readonly FleetLogin[]): Promise<void> {
  const ids = logins.map(({ id }) => id)
  await withDatabase(databaseUrl, (client) =>
    devices.changeStatus(client, byUser, { tenant, devices: ids, status: 'removed' }),
  )
}
