import { createServer } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { asPortError, needPorts } from './ports.ts'

async function taken(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return (server.address() as { port: number }).port
}

it('names the variable that moves a port in use', async () => {
  const port = await taken()
  await expect(needPorts([{ variable: 'BRIDGE_MQTT_PORT', host: '127.0.0.1', port }])).rejects.toMatchObject({
    code: 'BRIDGE_PORT_IN_USE',
    message: expect.stringContaining('BRIDGE_MQTT_PORT='),
  })
})

it('has nothing against 0, which picks a free one', async () => {
  await expect(needPorts([{ variable: 'BRIDGE_MQTT_PORT', host: '127.0.0.1', port: 0 }])).resolves.toBeUndefined()
})

it('knows the same failure from a listener', async () => {
  const port = await taken()
  const failure = await new Promise<Error>((resolve) => createServer().once('error', resolve).listen(port, '127.0.0.1'))
  const wrapped = new Error('the source did not start', { cause: failure })
  const wanted = [{ variable: 'BRIDGE_HTTP_PORT', host: '127.0.0.1', port }]
  expect(asPortError(wrapped, wanted)).toMatchObject({
    code: 'BRIDGE_PORT_IN_USE',
    details: { variable: 'BRIDGE_HTTP_PORT' },
  })
  const other = new Error('else')
  expect(asPortError(other, wanted)).toBe(other)
})
