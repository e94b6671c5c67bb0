import { type AddressInfo, createServer } from 'node:net'
import { Aedes } from 'aedes'
import { Kafka, logLevel } from 'kafkajs'

/**
 * The plain way to the same promise, for comparison: a stock Aedes, and one `send` of a stock kafkajs producer (acks=all) a message,
 * awaited before the PUBACK. Nobody is authenticated, nothing is decoded, checked, limited or written to a database.
 * Arguments: brokers, topic. Prints its port.
 */
const [brokers = '', topic = ''] = process.argv.slice(2)

const producer = new Kafka({
  clientId: 'aedes-kafkajs',
  brokers: brokers.split(','),
  logLevel: logLevel.ERROR,
}).producer()
await producer.connect()

const broker = await Aedes.createBroker({
  authorizePublish(client, packet, answer) {
    producer.send({ topic, acks: -1, messages: [{ key: client?.id ?? '', value: packet.payload as Buffer }] }).then(
      () => answer(null),
      (error: Error) => answer(error),
    )
  },
})
const server = createServer(broker.handle)
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`)
})

process.on('SIGTERM', () => {
  broker.close(() => {
    server.close()
    void producer.disconnect().then(() => process.exit(0))
  })
})
