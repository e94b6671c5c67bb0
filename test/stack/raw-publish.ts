import { once } from 'node:events'
import { createConnection } from 'node:net'
import { generate, type IPublishPacket, parser } from 'mqtt-packet'

/** Who connects where. */
export interface RawLogin {
  readonly port: number
  readonly device: string
  readonly token: string
  readonly clientId?: string
}

/** One PUBLISH at QoS 1 as it is to be on the wire: the packet id and the DUP flag are the test's. */
export type RawPublish = Pick<IPublishPacket, 'topic' | 'payload'> & {
  readonly messageId: number
  readonly dup?: boolean
}

/** Connects, publishes one after the other, and leaves when all are acknowledged. */
export async function publishRaw(
  { port, device, token, clientId = device }: RawLogin,
  ...publishes: readonly RawPublish[]
): Promise<void> {
  const socket = createConnection(port, '127.0.0.1')
  const failed = once(socket, 'close').then(() => {
    throw new Error('the connection ended before the PUBACK')
  })
  failed.catch(() => undefined)
  const parse = parser({ protocolVersion: 4 })
  socket.on('data', (bytes) => parse.parse(bytes))
  socket.on('error', () => undefined)
  const next = async (cmd: string) => {
    const [packet] = (await Promise.race([once(parse, 'packet'), failed])) as [{ cmd: string; returnCode?: number }]
    if (packet.cmd !== cmd || (packet.returnCode ?? 0) !== 0)
      throw new Error(`not ${cmd} but ${JSON.stringify(packet)}`)
  }
  const connack = next('connack')
  socket.write(
    generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: true,
      clientId,
      keepalive: 60,
      username: device,
      password: Buffer.from(token),
    }),
  )
  await connack
  for (const publish of publishes) {
    const puback = next('puback')
    socket.write(generate({ cmd: 'publish', qos: 1, dup: false, retain: false, ...publish }))
    await puback
  }
  socket.destroy()
}
