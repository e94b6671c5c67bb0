import { BlockList, isIP, type Server, type Socket } from 'node:net'
import { BridgeError } from './errors.ts'
import { plainAddress, readProxyHeader } from './proxy-protocol.ts'

/** A listed proxy sends its header first of all, so it is there at once. */
const headerMs = 5000

/** Whether the connection may stay; asked before its first byte is read by anything but us, with the client's own address. */
export type Admit = (address: string, socket: Socket) => boolean

/**
 * Knows the client's own address of every connection, also behind proxies that tell it. Connections of the listed addresses must begin with a
 * PROXY protocol header; nobody else's is looked at for one, or anybody could choose an address.
 */
export class ClientAddresses {
  readonly #proxies: BlockList | undefined
  readonly #told = new Map<string, string>()

  /** @param from addresses and networks (10.0.0.0/8) of proxies. @throws {BridgeError} BRIDGE_CONFIG_INVALID */
  constructor(from: readonly string[] = []) {
    this.#proxies = from.length === 0 ? undefined : proxiesOf(from)
  }

  /** The client's address; of a TLS socket too. To be asked while the connection is new: a closed one has none. */
  of(socket: Socket): string {
    if (this.#told.size > 0) {
      const told = this.#told.get(connectionKey(socket))
      if (told !== undefined) return told
    }
    return plainAddress(socket.remoteAddress) ?? ''
  }

  /**
   * Stands before everything that the server does with a new connection, be it MQTT, HTTP or a TLS handshake.
   * @returns ends the connections whose header has not come; for a server that closes
   */
  guard(server: Server, admit: Admit = () => true): () => void {
    const handlers = server.listeners('connection') as ((this: Server, socket: Socket) => void)[]
    server.removeAllListeners('connection')
    const expected = new Set<Socket>()
    const handOn = (socket: Socket, address: string) => {
      if (!admit(address, socket)) socket.destroy()
      else for (const handler of handlers) handler.call(server, socket)
    }
    server.on('connection', (socket) => {
      const address = plainAddress(socket.remoteAddress)
      if (address === undefined)
        socket.destroy() // it has gone already
      else if (!this.#isProxy(address)) handOn(socket, address)
      else {
        expected.add(socket)
        takeHeader(socket, (told) => {
          expected.delete(socket)
          if (told === undefined) return
          if (told !== '') this.#remember(socket, told)
          handOn(socket, told === '' ? address : told)
        })
      }
    })
    return () => {
      for (const socket of expected) socket.destroy()
    }
  }

  #isProxy(address: string): boolean {
    return this.#proxies?.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4') === true
  }

  /** By both ends of the connection, which a TLS socket over it has in common with it. */
  #remember(socket: Socket, address: string): void {
    const key = connectionKey(socket)
    this.#told.set(key, address)
    socket.once('close', () => this.#told.delete(key))
  }
}

/** The same for a TLS socket and the bare one below it. */
export function connectionKey({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`
}

/**
 * Reads by `readable`, not by `data`: so the socket is left neither flowing nor paused, and whoever takes it over starts it in its own way. A
 * TLS server reads what lies in its buffer, and would lose that if the socket flowed.
 * @param done with the address that the header tells, '' when it tells none, undefined when the connection is over
 */
function takeHeader(socket: Socket, done: (told: string | undefined) => void): void {
  let received: Buffer = Buffer.alloc(0)
  const settle = (told: string | undefined) => {
    clearTimeout(timer)
    socket.off('readable', onReadable)
    socket.off('close', drop)
    if (told !== undefined) socket.off('error', drop)
    done(told)
  }
  const drop = () => {
    if (!socket.destroyed) socket.destroy()
    settle(undefined)
  }
  const onReadable = () => {
    const chunk: Buffer | null = socket.read()
    if (chunk === null) return
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
    const header = readProxyHeader(received)
    if (header === 'incomplete') return
    if (header === 'invalid') return drop()
    socket.off('readable', onReadable)
    const rest = received.subarray(header.length)
    if (rest.length > 0) socket.unshift(rest)
    settle(header.source ?? '')
  }
  const timer = setTimeout(drop, headerMs)
  socket.on('error', drop)
  socket.on('close', drop)
  socket.on('readable', onReadable)
}

function proxiesOf(from: readonly string[]): BlockList {
  const list = new BlockList()
  for (const text of from) {
    const [address = '', bits, ...more] = text.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    const longest = family === 'ipv6' ? 128 : 32
    const isSubnet = bits !== undefined && /^\d{1,3}$/.test(bits) && Number(bits) <= longest
    if (isIP(address) === 0 || more.length > 0 || (bits !== undefined && !isSubnet))
      throw new BridgeError(
        'BRIDGE_CONFIG_INVALID',
        `proxy.from (BRIDGE_PROXY_FROM): "${text}" is neither an address nor a network such as 10.0.0.0/8 or fd00::/8`,
      )
    if (isSubnet) list.addSubnet(address, Number(bits), family)
    else list.addAddress(address, family)
  }
  return list
}
