import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { loadConfig, settings } from '#platform/config.ts'
import { createLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { startOpsListener } from '#platform/ops-listener.ts'
import { checkDatabaseSecret, checkStart } from '#platform/start-checks.ts'
import {
  type ComposeService,
  readCompose,
  readDockerfile,
  readEnvFile,
  readHaproxyServers,
  readText,
  repositoryFile,
  variablesOf,
} from './container-files.ts'

// What these files say is compared with the program itself, so that they are right where no container engine is.
const compose = readCompose()
const composeTls = readCompose('docker-compose.tls.yml')
const dockerfile = readDockerfile()
const envFile = readEnvFile('.env.example')
const ours = Object.entries(compose.services).filter(([, { image }]) => image === 'fleetbridge:local')
const imageEnvironment = Object.fromEntries(
  dockerfile.filter(({ name }) => name === 'ENV').map(({ rest }) => rest.split('=') as [string, string]),
)
const instructions = (name: string) => dockerfile.filter((line) => line.name === name).map(({ rest }) => rest)

/** What a container of ours finds in its environment, with these values in .env. */
function environmentOf(service: ComposeService, values: ReadonlyMap<string, string>): Record<string, string> {
  const filled = Object.entries(service.environment ?? {}).map(([name, text]) => [
    name,
    String(text).replace(/\$\{(\w+)(?::[-?][^}]*)?\}/g, (_, variable: string) => values.get(variable) ?? ''),
  ])
  return { ...imageEnvironment, ...Object.fromEntries(filled) }
}

it('has the whole topology', () => {
  expect(ours.map(([name, { command }]) => `${name}: ${command?.join(' ')}`).sort()).toEqual([
    'gateway-1: gateway',
    'gateway-2: gateway',
    'init: init',
    'worker-1: worker',
    'worker-2: worker',
  ])
  expect(Object.keys(compose.services)).toEqual(expect.arrayContaining(['haproxy', 'kafka', 'redis', 'postgres']))
})

it('every setting is one, and its value is taken', () => {
  const known = new Set(settings.map(({ env }) => env))
  const secrets = new Map([...envFile, ['POSTGRES_PASSWORD', 'f3a91c'], ['REDIS_PASSWORD', '77ab02']])
  for (const [name, service] of ours) {
    const environment = environmentOf(service, secrets)
    for (const variable of Object.keys(environment))
      if (variable !== 'NODE_ENV') expect(known, name).toContain(variable)
    const config = loadConfig({ ...environment, BRIDGE_CONFIG: undefined })
    checkStart(config)
    expect(config.database.url).toBe('postgres://fleetbridge:f3a91c@postgres:5432/fleetbridge')
    expect(config.kafka.brokers).toEqual(
      [compose.services.kafka?.environment?.KAFKA_ADVERTISED_LISTENERS].map(withoutScheme),
    )
    if (service.command?.[0] === 'gateway') expect(config.redis.url).toBe('redis://:77ab02@redis:6379')
    expect(seconds(service.stop_grace_period), `${name} is killed while it may still close`).toBeGreaterThan(
      config.shutdownMs / 1000,
    )
  }
})

it('a sample password is refused by the gateway, as .env is filled in by hand', () => {
  const gateway = compose.services['gateway-1'] as ComposeService
  const sample = new Map([...envFile, ['POSTGRES_PASSWORD', 'password'], ['REDIS_PASSWORD', 'change-me']])
  expect(() => checkStart(loadConfig(environmentOf(gateway, sample)))).toThrow(/DATABASE_URL[\s\S]*REDIS_URL/)
})

it('the worker and init refuse it, too', () => {
  const sample = new Map([...envFile, ['POSTGRES_PASSWORD', 'change-me-please'], ['REDIS_PASSWORD', '77ab02']])
  for (const name of ['worker-1', 'init'])
    expect(() =>
      checkDatabaseSecret(loadConfig(environmentOf(compose.services[name] as ComposeService, sample))),
    ).toThrow(/DATABASE_URL/)
})

it('docker-compose.tls.yml gives every gateway the certificate, and HAProxy its ports', () => {
  const gateways = ours.filter(([, { command }]) => command?.[0] === 'gateway').map(([name]) => name)
  expect(Object.keys(composeTls.services).sort()).toEqual([...gateways, 'haproxy'])
  for (const name of gateways) {
    const base = compose.services[name] as ComposeService
    const { environment, volumes = [] } = composeTls.services[name] as ComposeService
    const merged = { ...base, environment: { ...base.environment, ...environment } }
    const secrets = new Map([...envFile, ['POSTGRES_PASSWORD', 'f3a91c'], ['REDIS_PASSWORD', '77ab02']])
    const config = loadConfig({ ...environmentOf(merged, secrets), BRIDGE_CONFIG: undefined })
    checkStart(config)
    const [mounted] = volumes.map((volume) => /:([^:]+):ro$/.exec(volume)?.[1])
    for (const file of [config.tls.certFile, config.tls.keyFile]) expect(file).toContain(`${mounted}/`)
  }
  expect(composeTls.services.haproxy?.ports?.map((text) => text.slice(text.lastIndexOf(':') + 1))).toEqual([
    '8883',
    '8443',
  ])
  expect(readText('.gitignore').split('\n'), 'nobody commits the key').toContain('tls/')
})

it('every variable stands in .env.example: secrets empty and required, the others with the default that compose has', () => {
  const used = ['docker-compose.yml', 'docker-compose.tls.yml'].flatMap((file) => variablesOf(readText(file)))
  // Compose asks for what is required also where its profile is not used, so these containers ask by themselves.
  const ofProfiles = new Set(['GRAFANA_PASSWORD', 'READER_PASSWORD'])
  expect(new Set(used.map(({ name }) => name))).toEqual(new Set(envFile.keys()))
  for (const { name, fallback, required } of used) {
    const isSecret = /PASSWORD|SECRET|TOKEN|KEY/.test(name)
    expect(required, `${name} is required when it is a secret`).toBe(isSecret && !ofProfiles.has(name))
    expect(envFile.get(name), name).toBe(required ? '' : fallback)
  }
  expect(readText('.gitignore').split('\n')).toContain('.env')
})

it('every command is one of the program', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [
    repositoryFile('bin/fleetbridge.js').pathname,
    '--help',
  ])
  const commands = [...stdout.matchAll(/^ {2}([a-z-]+) /gm)].map(([, name]) => name)
  expect(commands).toContain('up')
  for (const [name, { command = [] }] of ours) expect(commands, name).toContain(command[0])
  expect(instructions('ENTRYPOINT')).toEqual(['["node", "bin/fleetbridge.js"]'])
})

it('what the image copies is in the repository, is let into the build, and is all that the program imports', () => {
  const ignored = readText('.dockerignore').split('\n')
  const sources = instructions('COPY')
    .filter((rest) => !rest.startsWith('--from='))
    .flatMap((rest) => rest.split(/\s+/).slice(0, -1))
  for (const source of sources) {
    expect(existsSync(repositoryFile(source)), source).toBe(true)
    expect(ignored, 'a line of .dockerignore').toContain(`!${source}`)
  }
  const { imports } = JSON.parse(readText('package.json')) as { imports: Record<string, string> }
  const folders = Object.values(imports).map((path) => path.split('/')[1])
  expect(folders.filter((folder) => folder !== 'test' && !sources.includes(folder as string))).toEqual([])
  for (const [, path] of Object.values(compose.services).flatMap(({ volumes = [] }) =>
    volumes.flatMap((volume) => [...volume.matchAll(/^(\.\/[^:]+):/g)]),
  ))
    expect(existsSync(repositoryFile(path as string)), path).toBe(true)
})

it('the image needs no install script but that of the packaged Node, which it leaves out', () => {
  const { packages } = JSON.parse(readText('package-lock.json')) as {
    packages: Record<string, { hasInstallScript?: true; dev?: true; optional?: true; devOptional?: true }>
  }
  const withScripts = Object.entries(packages)
    .filter(
      ([, { hasInstallScript, dev, optional, devOptional }]) => hasInstallScript && !dev && !optional && !devOptional,
    )
    .map(([path]) => path)
  expect(withScripts).toEqual(['node_modules/node'])
  expect(instructions('RUN').join()).toMatch(/npm ci --omit=dev --omit=optional --ignore-scripts/)
  const [major] = readText('.node-version').split('.')
  for (const from of instructions('FROM')) expect(from).toMatch(new RegExp(`^node:${major?.trim()}-slim( AS \\w+)?$`))
})

it('nothing runs as root, everything is watched and comes back', () => {
  expect(dockerfile.findLast(({ name }) => name === 'USER')?.rest).toBe('node')
  for (const [name, service] of Object.entries(compose.services)) {
    if (service.image !== 'fleetbridge:local') {
      expect(service.user, name).toMatch(/^(?!root|0)/)
      if (service.restart !== 'no') expect(service.healthcheck?.test, name).toBeDefined()
      expect(service.image, `${name}: a version`).toMatch(/:v?\d/)
    }
    expect(service.cap_drop, name).toEqual(['ALL'])
    expect(service.restart, name).toBe(name === 'init' || name === 'reader' ? 'no' : 'unless-stopped')
    for (const [needed, { condition }] of Object.entries(service.depends_on ?? {})) {
      const other = compose.services[needed]
      expect(other, `${name} needs ${needed}`).toBeDefined()
      expect(condition === 'service_completed_successfully', `${name} needs ${needed}`).toBe(other?.restart === 'no')
    }
    for (const network of service.networks ?? []) expect(compose.networks, name).toHaveProperty(network)
    for (const [, volume] of (service.volumes ?? []).flatMap((text) => [...text.matchAll(/^(\w+):/g)]))
      expect(compose.volumes, name).toHaveProperty(volume as string)
  }
})

it('what watches is a profile: not started unless asked for, not reached from other machines, and not without a password', async () => {
  const watching = Object.entries(compose.services).filter(([, { profiles }]) => profiles?.includes('monitoring'))
  expect(watching.map(([name]) => name).sort()).toEqual(['grafana', 'prometheus', 'reader'])
  for (const [name, { ports = [], entrypoint = [] }] of watching) {
    for (const published of ports) expect(published, name).toMatch(/^127\.0\.0\.1:/)
    const [file, flags, script] = entrypoint
    if (script === undefined) continue
    const outcome = promisify(execFile)(file as string, [flags as string, script.replaceAll('$$', '$')], { env: {} })
    await expect(outcome, name).rejects.toMatchObject({ code: 1, stdout: expect.stringContaining('.env.example') })
  }
})

it('health checks ask paths that the ops listener answers', async () => {
  const asked = [
    ...instructions('HEALTHCHECK').flatMap((rest) => [...rest.matchAll(/'(\/\w+)'/g)]),
    ...readText('ops/haproxy.cfg').matchAll(/httpchk GET (\S+)/g),
  ].map(([, path]) => path)
  expect(asked).toEqual(['/livez', ...Array.from({ length: 4 }, () => '/readyz')])
  await using ops = await startOpsListener({
    host: '127.0.0.1',
    port: 0,
    metrics: createMetrics('0.0.0'),
    ready: () => ({ ok: true, detail: {} }),
    log: createLog('test', 'silent'),
  })
  for (const path of asked) expect((await fetch(`http://127.0.0.1:${ops.port}${path}`)).status, path).toBe(200)
})

it("the image's health check says 0 for a process that lives and 1 for none", async () => {
  const [, command = ''] = /CMD (\[.*\])$/.exec(instructions('HEALTHCHECK')[0] as string) ?? []
  const [, ...args] = JSON.parse(command) as string[]
  const check = (port: number) =>
    promisify(execFile)(process.execPath, args, { env: { BRIDGE_OPS_PORT: String(port) } }).then(
      () => 0,
      ({ code }: { code: number }) => code,
    )
  const ops = await startOpsListener({
    host: '127.0.0.1',
    port: 0,
    metrics: createMetrics('0.0.0'),
    ready: () => ({ ok: false, detail: {} }),
  })
  expect(await check(ops.port)).toBe(0)
  await ops.close()
  expect(await check(ops.port)).toBe(1)
})

it('HAProxy knows every gateway by its service, port and network, and they know it', () => {
  const gateways = ours.filter(([, { command }]) => command?.[0] === 'gateway')
  const config = loadConfig({ ...imageEnvironment, KAFKA_BROKERS: 'kafka:9092' })
  const ports = new Map([
    ['gateways_mqtt', config.mqtt.port],
    ['gateways_http', config.http.port],
    ['gateways_mqtts', config.mqtt.tlsPort],
    ['gateways_https', config.http.tlsPort],
  ])
  const servers = readHaproxyServers()
  for (const { backend, host, port, options } of servers) {
    expect(port, backend).toBe(ports.get(backend))
    expect(options, 'or all devices have one address').toContain('send-proxy-v2')
    if (options.includes('check')) expect(options[options.indexOf('port') + 1]).toBe(String(config.ops.port))
    else expect(options).toContain('backup')
    expect(gateways.map(([name]) => name)).toContain(host)
  }
  for (const backend of ports.keys())
    for (const [name] of gateways)
      expect(
        servers.filter((server) => server.backend === backend && server.host === name).length,
        `${backend}: ${name}, and ${name} when none is ready`,
      ).toBe(2)
  const front = compose.networks.front?.ipam?.config[0]?.subnet
  for (const [, { environment, networks, ports: published }] of gateways) {
    expect(environment?.BRIDGE_PROXY_FROM).toBe(front)
    expect(networks).toEqual(['front', 'back'])
    expect(published, 'who came past HAProxy would be taken for it').toBeUndefined()
  }
  expect(compose.services.haproxy?.networks).toEqual(['front'])
  const bound = [...readText('ops/haproxy.cfg').matchAll(/bind :(\d+)/g)].map(([, port]) => port)
  for (const published of [compose, composeTls].flatMap(({ services }) => services.haproxy?.ports ?? []))
    expect(bound, published).toContain(published.slice(published.lastIndexOf(':') + 1))
  expect(compose.networks.back?.internal).toBe(true)
})

function withoutScheme(address: string | number | undefined): string {
  return String(address).replace(/^\w+:\/\//, '')
}

function seconds(text: string | undefined): number {
  return Number(/^(\d+)s$/.exec(text ?? '')?.[1])
}

it('docs/deploy.md names services, commands, variables and pages that exist', () => {
  const page = readText('docs/deploy.md')
  for (const [, service] of page.matchAll(/docker compose (?:exec|run --rm|up -d --no-deps) ([a-z]+(?:-\d)?)/g))
    expect(compose.services).toHaveProperty(service as string)
  for (const [, variable] of page.matchAll(/`((?:MQTTS?|HTTPS?|TLS|FRONT|POSTGRES|REDIS)_[A-Z]+)`/g))
    expect(envFile.has(variable as string), variable).toBe(true)
  for (const [setting] of page.matchAll(/BRIDGE_(?!SCHEMA)[A-Z_]+/g))
    expect(settings.map(({ env }) => env)).toContain(setting)
  for (const [, target] of page.matchAll(/\]\(([^)#:]+)\)/g))
    expect(existsSync(repositoryFile(`docs/${target}`)), target).toBe(true)
})
