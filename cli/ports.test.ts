import { createServer } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { needPorts } from './ports.ts'

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
