import { connect, createServer, type Socket } from 'node:net'

/** A line between the store and Postgres that breaks on demand. */
export interface Proxy extends AsyncDisposable {
  readonly url: string
  /** Lets the next COMMIT through and cuts the line before its answer. */
  cutAtCommit(): void
  /** How often it did. */
  cuts(): number
  /** While true every line is cut and none is taken. */
  refuse(on: boolean): void
}

export async function startProxy(databaseUrl: string): Promise<Proxy> {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  let armed = false
  let cuts = 0
  let refusing = false
  const server = createServer((front) => {
    if (refusing) {
      front.destroy()
      return
    }
    const back = connect(Number(target.port), target.hostname)
    for (const socket of [front, back]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        front.destroy()
        back.destroy()
      })
    }
    front.pipe(back)
    back.on('data', (bytes) => {
      // CommandComplete of COMMIT.
      if (armed && bytes.includes('COMMIT\u0000')) {
        armed = false
        cuts++
        front.destroy()
      } else front.write(bytes)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = new URL(databaseUrl)
  url.port = String((server.address() as { port: number }).port)
  return {
    url: url.href,
    cutAtCommit: () => {
      armed = true
    },
    cuts: () => cuts,
    refuse(on) {
      refusing = on
      if (on) for (const socket of sockets) socket.destroy()
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
