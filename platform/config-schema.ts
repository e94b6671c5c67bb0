import Type, { type Static, type TProperties } from 'typebox'

/** An object that refuses unknown keys; its members have defaults of their own, so the whole may be left out. */
function section<Properties extends TProperties>(properties: Properties) {
  return Type.Object(properties, { additionalProperties: false })
}

const port = (number: number, what: string) =>
  Type.Integer({ default: number, minimum: 0, maximum: 65_535, description: `${what}; 0 picks a free port` })
const host = (address: string) => Type.String({ default: address, minLength: 1, description: 'address to listen on' })
const limit = (initial: string, what: string) =>
  Type.String({
    default: initial,
    pattern: '^(none|[1-9]\\d{0,8}:[1-9]\\d{0,5}(,[1-9]\\d{0,8}:[1-9]\\d{0,5})*)$',
    description: `${what}. N:S is a bucket of N tokens refilled N in S seconds; several, separated by commas, all hold; none switches it off`,
  })
const flag = (initial: boolean, description: string) => Type.Boolean({ default: initial, description })

/**
 * Every setting, with its default and what it does; docs/configuration.md is made from it.
 * A path becomes an environment name: mqtt.maxPacketBytes is BRIDGE_MQTT_MAX_PACKET_BYTES; `env` names the three that are not ours.
 */
export const Config = section({
  dataDir: Type.String({
    default: './.fleetbridge',
    description: 'where the embedded Postgres, its secrets and the state of a running instance live',
  }),
  shutdownMs: Type.Integer({
    default: 15_000,
    minimum: 1000,
    description: 'past this after SIGTERM the process exits non-zero',
  }),
  routes: Type.Array(Type.Object({}), {
    default: [],
    description:
      'which topic or path is decoded how, before the default order: docs/routes.md; read again when the file changes and at SIGHUP',
  }),
  log: section({
    level: Type.Union(
      [
        Type.Literal('debug'),
        Type.Literal('info'),
        Type.Literal('warn'),
        Type.Literal('error'),
        Type.Literal('silent'),
      ],
      {
        default: 'info',
        description: 'least level that is logged: debug, info, warn, error, silent',
      },
    ),
  }),
  mqtt: section({
    port: port(1883, 'MQTT 3.1.1 and 5 over TCP'),
    host: host('0.0.0.0'),
    plain: flag(true, 'false: no MQTT without TLS'),
    tlsPort: port(8883, 'MQTT over TLS; opened when tls.certFile is set'),
    maxPacketBytes: Type.Integer({
      default: 1_048_576,
      minimum: 128,
      maximum: 268_435_455,
      description: 'larger packets end the connection (0x95)',
    }),
    maxInHandMessages: Type.Integer({
      default: 100,
      minimum: 1,
      maximum: 65_535,
      description: 'unacknowledged messages of one connection before its socket is paused',
    }),
    maxInHandBytes: Type.Integer({ default: 2_097_152, minimum: 1024, description: 'their bytes' }),
    maxConnections: Type.Integer({ default: 20_000, minimum: 1, description: 'connections in all' }),
    maxConnectionsPerAddress: Type.Integer({
      default: 5000,
      minimum: 1,
      description: 'connections from one address; a site behind one router has one',
    }),
    connectRate: limit('2000:10', 'new connections from one address'),
    maxTopicLevels: Type.Integer({ default: 16, minimum: 3, maximum: 128, description: 'levels of a topic or filter' }),
    maxTopicBytes: Type.Integer({
      default: 512,
      minimum: 160,
      maximum: 65_535,
      description: 'bytes of a topic or filter',
    }),
    maxFilters: Type.Integer({ default: 32, minimum: 1, maximum: 1000, description: 'topic filters of one session' }),
    maxRetainedBytes: Type.Integer({
      default: 65_536,
      minimum: 0,
      description: 'topics and payloads of the messages that the broker retains for one device',
    }),
    connectTimeoutMs: Type.Integer({
      default: 10_000,
      minimum: 100,
      description: 'a socket without a complete CONNECT, or without its answer, is closed after this',
    }),
    holdMs: Type.Integer({
      default: 10_000,
      minimum: 100,
      maximum: 60_000,
      description: 'longest hold at a limit or while the event log is away; half the keep alive if that is less',
    }),
    onLimit: Type.Union([Type.Literal('hold'), Type.Literal('refuse')], {
      default: 'hold',
      description:
        'over a limit: hold (then close) or refuse (MQTT 5: PUBACK 0x97, after which most clients forget the message)',
    }),
    open: flag(false, 'anonymous clients, every topic; for trying, on loopback only'),
    openDeny: Type.Array(Type.String(), { default: [], description: 'topic filters that stay denied in open mode' }),
  }),
  http: section({
    port: port(8080, 'HTTP for devices, and MQTT over WebSocket at /mqtt'),
    host: host('0.0.0.0'),
    plain: flag(true, 'false: no HTTP and no WebSocket without TLS'),
    tlsPort: port(8443, 'HTTPS, and MQTT over secure WebSocket at /mqtt; opened when tls.certFile is set'),
    webSocket: flag(true, 'MQTT over WebSocket at /mqtt'),
    maxConnections: Type.Integer({ default: 20_000, minimum: 1, description: 'connections in all' }),
    maxConnectionsPerAddress: Type.Integer({
      default: 5000,
      minimum: 1,
      description: 'connections from one address; a proxy in front has one, unless it sends the PROXY protocol',
    }),
    maxBodyBytes: Type.Integer({
      default: 1_048_576,
      minimum: 128,
      maximum: 67_108_864,
      description: 'larger bodies, also after inflation, are 413',
    }),
    maxItems: Type.Integer({ default: 10_000, minimum: 1, description: 'messages in one request' }),
    holdMs: Type.Integer({
      default: 10_000,
      minimum: 100,
      maximum: 60_000,
      description: 'longest wait for the event log before 503',
    }),
  }),
  ops: section({
    port: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 65_535,
        description: '/metrics, /livez, /readyz; 8081 when absent, 8083 for a worker that runs alone',
      }),
    ),
    host: host('0.0.0.0'),
  }),
  admin: section({
    port: port(8082, 'admin API'),
    host: host('127.0.0.1'),
    token: Type.Optional(
      Type.String({
        secret: true,
        minLength: 20,
        description: 'opens the admin API with the role admin; "up" makes one at its first start when this is absent',
      }),
    ),
  }),
  tls: section({
    certFile: Type.Optional(
      Type.String({ minLength: 1, description: 'PEM, the chain included; read again when it changes' }),
    ),
    keyFile: Type.Optional(Type.String({ minLength: 1, description: 'PEM, its private key' })),
    minVersion: Type.Union([Type.Literal('TLSv1.2'), Type.Literal('TLSv1.3')], {
      default: 'TLSv1.2',
      description: 'TLSv1.2 or TLSv1.3',
    }),
  }),
  proxy: section({
    from: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description:
        'addresses or networks (10.0.0.0/8) whose connections begin with a PROXY protocol header, version 1 or 2, on the device listeners',
    }),
  }),
  auth: section({
    jwt: Type.Array(
      section({
        tenant: Type.String({ pattern: '^[a-z0-9-]{1,63}$' }),
        issuer: Type.String({ minLength: 1 }),
        audience: Type.String({ minLength: 1 }),
        algorithms: Type.Array(
          Type.Union(
            ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'HS256'].map((algorithm) => Type.Literal(algorithm)),
          ),
          { minItems: 1 },
        ),
        keysFile: Type.String({ minLength: 1 }),
        deviceClaim: Type.Optional(Type.String({ minLength: 1 })),
      }),
      {
        default: [],
        description:
          'issuers of JSON Web Tokens: tenant, issuer, audience, algorithms, keysFile (a JWK set or a PEM public key), deviceClaim (sub)',
      },
    ),
    clientCas: Type.Array(
      section({
        tenant: Type.String({ pattern: '^[a-z0-9-]{1,63}$' }),
        file: Type.String({ minLength: 1 }),
        identity: Type.Optional(Type.Union([Type.Literal('cn'), Type.Literal('san')])),
      }),
      {
        default: [],
        description:
          "authorities of client certificates: tenant, file (PEM), identity (cn: the subject's common name is the device; san: its first DNS name or URI)",
      },
    ),
    failures: limit('10:60', 'failed logins of one address and of one user name, after which answers are delayed'),
  }),
  limits: section({
    device: limit('1000:1', 'messages of one device'),
    deviceReadings: limit('none', 'readings of one device'),
    deviceBytes: limit('none', 'bytes of one device'),
    fleet: limit('10000:1', 'messages of one fleet credential, all its devices together'),
    fleetReadings: limit('none', 'readings of one fleet credential'),
    fleetBytes: limit('none', 'bytes of one fleet credential'),
    tenant: limit('none', 'messages of one tenant'),
    tenantReadings: limit('none', 'readings of one tenant'),
    tenantBytes: limit('none', 'bytes of one tenant'),
    all: limit('none', 'messages of the whole installation'),
    allReadings: limit('none', 'readings of the whole installation'),
    allBytes: limit('none', 'bytes of the whole installation'),
    catchUpDevice: limit(
      '100:1',
      'messages of one device whose readings are all older than 10 min; all three none: they count like others',
    ),
    catchUpFleet: limit('1000:1', 'messages of one fleet credential whose readings are all older than 10 min'),
    catchUpTenant: limit('2000:1', 'messages of one tenant whose readings are all older than 10 min'),
    firstSightDevices: Type.Integer({
      default: 1000,
      minimum: 0,
      description: 'unknown devices that one fleet credential may create in all',
    }),
    firstSightPerMinute: Type.Integer({
      default: 60,
      minimum: 1,
      description: 'unknown devices that one fleet credential may create in a minute',
    }),
  }),
  retention: section({
    reading: Type.String({
      default: '90d',
      pattern: '^(forever|[1-9]\\d{0,4}d)$',
      description:
        'readings older than this are parked as too_old, and stored ones dropped; partitions follow it (Nd or forever)',
    }),
    rollup10m: Type.String({
      default: '400d',
      pattern: '^(forever|[1-9]\\d{0,4}d)$',
      description: 'rollups by 10 minutes older than this are dropped, a week at once (Nd or forever)',
    }),
    rollup1h: Type.String({
      default: 'forever',
      pattern: '^(forever|[1-9]\\d{0,4}d)$',
      description: 'rollups by hours older than this are dropped, a month at once (Nd or forever)',
    }),
    recentMessage: Type.String({
      default: '2d',
      pattern: '^[1-9]\\d{0,2}d$',
      description: 'days that the ids of messages are remembered: a copy that comes later is another message',
    }),
    deadLetter: Type.String({
      default: '90d',
      pattern: '^(forever|[1-9]\\d{0,4}d)$',
      description: 'dead letters older than this are deleted (Nd or forever)',
    }),
    deviceEvent: Type.String({
      default: '30d',
      pattern: '^(forever|[1-9]\\d{0,4}d)$',
      description: 'device events older than this are deleted (Nd or forever)',
    }),
  }),
  presence: section({
    gatewayExpirySeconds: Type.Integer({
      default: 30,
      minimum: 3,
      maximum: 3600,
      description: 'a gateway that gives no sign of life for this long has ended, and its MQTT sessions are lost',
    }),
    silence: flag(true, 'false: devices that stop reporting are not looked for'),
    silentMinSeconds: Type.Integer({
      default: 300,
      minimum: 1,
      description: 'no device whose interval was learnt is silent sooner',
    }),
    silentMaxSeconds: Type.Integer({
      default: 172_800,
      minimum: 1,
      description: 'every device whose interval was learnt is silent after this',
    }),
    metricTenants: Type.Array(Type.String({ pattern: '^[a-z0-9-]{1,63}$' }), {
      default: [],
      maxItems: 100,
      description: 'tenants that have a series of their own in fleetbridge_tenant_silent_devices',
    }),
  }),
  webhook: section({
    url: Type.Optional(
      Type.String({
        secret: true,
        minLength: 1,
        description:
          'http(s) address that hears of device events (docs/presence.md); the worker calls whatever it names, so it is for operators alone',
      }),
    ),
    secret: Type.Optional(
      Type.String({ secret: true, minLength: 20, description: 'signs what is sent there (HMAC-SHA256)' }),
    ),
    kinds: Type.Array(
      Type.Union(
        ['connected', 'disconnected', 'lost', 'silent', 'back', 'limited', 'dead_letters'].map((kind) =>
          Type.Literal(kind),
        ),
      ),
      {
        default: ['silent', 'back', 'lost', 'dead_letters'],
        description: 'what it hears of: connected, disconnected, lost, silent, back, limited, dead_letters',
      },
    ),
    deadLetters: Type.Integer({
      default: 1000,
      minimum: 1,
      description: 'dead letters of one tenant in five minutes that are a flood: kind dead_letters, once an hour',
    }),
    maxAgeHours: Type.Integer({
      default: 72,
      minimum: 1,
      maximum: 8760,
      description: 'what the receiver has not taken for this long is given up',
    }),
  }),
  deadLetters: section({
    deviceBytes: Type.Integer({
      default: 16_777_216,
      minimum: 1,
      description: 'bytes of one device that may wait as dead letters; past it what cannot be decoded is over a limit',
    }),
    tenantBytes: Type.Integer({
      default: 1_073_741_824,
      minimum: 1,
      description: 'bytes of one tenant that may wait as dead letters',
    }),
  }),
  redis: section({
    url: Type.Optional(
      Type.String({
        env: 'REDIS_URL',
        secret: true,
        minLength: 1,
        description: 'absent: limits are counted, and MQTT sessions kept, in this process',
      }),
    ),
  }),
  kafka: section({
    brokers: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        env: 'KAFKA_BROKERS',
        minItems: 1,
        description: 'host:port,host:port; absent: readings go straight to Postgres',
      }),
    ),
    topicPrefix: Type.String({
      default: 'fleetbridge',
      pattern: '^[A-Za-z0-9._-]{1,100}$',
      description: 'first part of the topic names',
    }),
    partitions: Type.Integer({
      default: 12,
      minimum: 1,
      maximum: 10_000,
      description: 'partitions of topics that init creates',
    }),
    retentionHours: Type.Integer({
      default: 168,
      minimum: 1,
      description: 'retention of topics that init creates: how long the worker may be away',
    }),
    lingerMs: Type.Integer({ default: 1, minimum: 0, maximum: 1000, description: 'shortest interval between sends' }),
    maxLingerMs: Type.Integer({
      default: 10,
      minimum: 0,
      maximum: 1000,
      description: 'longest interval, at high rates',
    }),
    maxBatchMessages: Type.Integer({ default: 1000, minimum: 1, description: 'records of one send' }),
    maxBatchBytes: Type.Integer({ default: 262_144, minimum: 1024, description: 'bytes of one send' }),
    maxBufferBytes: Type.Integer({
      default: 67_108_864,
      minimum: 1024,
      description: 'bytes that may wait for Kafka before messages are refused',
    }),
    group: Type.Optional(
      Type.String({
        minLength: 1,
        description:
          'consumer group of the workers; absent: `<topicPrefix>-worker`, so that two fleets in one Kafka have a group each',
      }),
    ),
  }),
  database: section({
    url: Type.Optional(
      Type.String({
        env: 'DATABASE_URL',
        secret: true,
        minLength: 1,
        description: 'postgres://…; absent: the embedded Postgres',
      }),
    ),
    poolSize: Type.Integer({ default: 4, minimum: 1, maximum: 100, description: 'connections of one process' }),
  }),
  postgres: section({
    port: Type.Integer({
      default: 5433,
      minimum: 0,
      maximum: 65_535,
      description: 'embedded Postgres; the next free one is taken and kept when it is in use',
    }),
    host: host('127.0.0.1'),
    minFreeDiskMb: Type.Integer({
      default: 200,
      minimum: 1,
      description: 'embedded: below this nothing is taken any more',
    }),
  }),
})

export type Config = Static<typeof Config>
