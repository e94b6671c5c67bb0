import { expect, it } from 'vitest'
import { RawClient } from './testing/raw-client.ts'
import { startTestSource } from './testing/source.ts'

it('a command reaches the node that has subscribed to it, under its own name, and nobody else', async () => {
  await using test = await startTestSource()
  const connect = async (name: string, topic: string) => {
    const client = await RawClient.connect(test.port, name, 4, { clientId: `${name} ${topic}` })
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos: 1 }] })
    await client.next('suback')
    return client
  }
  const node = await connect('gw-1', 'spBv1.0/kid-g/NCMD/n/#')
  const other = await connect('gw-2', 'spBv1.0/kid-g/NCMD/m')
  const stranger = await connect('gw-1@acme', 'spBv1.0/kid-g/NCMD/n')
  test.source.publish('default', 'spBv1.0/kid-g/NCMD/n', Buffer.from('rebirth'))
  expect(await node.next('publish')).toMatchObject({ topic: 'spBv1.0/kid-g/NCMD/n', qos: 0, retain: false })
  for (const client of [other, stranger]) {
    client.send({ cmd: 'pingreq' })
    await client.next('pingresp')
    expect(client.packets.map(({ cmd }) => cmd)).not.toContain('publish')
    client.destroy()
  }
  node.destroy()
})
