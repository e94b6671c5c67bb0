import { createServer, type Server } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { listen } from './listen.ts'

function server(): Server {
  const made = createServer()
  onTestFinished(() => void made.close())
  return made
}

const host = '127.0.0.1'
const variable = 'BRIDGE_HTTP_PORT'

it('says which port was picked', async () => {
  const one = server()
  const port = await listen(one, { host, port: 0, variable })
  expect(one.address()).toMatchObject({ port })
  expect([one.listenerCount('error'), one.listenerCount('listening')]).toEqual([0, 0])
})

it('names the variable when the port is in use, and keeps the cause', async () => {
  const port = await listen(server(), { host, port: 0, variable })
  const second = server()
  await expect(listen(second, { host, port, variable })).rejects.toMatchObject({
    code: 'BRIDGE_PORT_IN_USE',
    message: expect.stringMatching(new RegExp(`port ${port} .* BRIDGE_HTTP_PORT=\\d+$`)),
    details: { port, variable },
    cause: expect.objectContaining({ code: 'EADDRINUSE' }),
  })
  expect(second.listenerCount('listening')).toBe(0)
})

it('names the variable of the address when this machine does not have it', async () => {
  await expect(listen(server(), { host: '192.0.2.1', port: 0, variable })).rejects.toMatchObject({
    code: 'BRIDGE_CONFIG_INVALID',
    message: expect.stringContaining('BRIDGE_HTTP_HOST'),
  })
})
