import { type AddressInfo, createServer } from 'node:net'
import { Aedes } from 'aedes'
import { Kafka, logLevel } from 'kafkajs'

/**
 * The plain way, for comparison: a stock Aedes, and one `send` of a kafkajs producer (acks=all) a message, awaited before the PUBACK.
 * Nobody is authenticated, nothing is decoded, checked, limited or written to a database.
 * `idempotent` keeps our promise, that a retry neither doubles nor reorders, for which kafkajs has one request on its way; `plain` is the stock
 * producer, which may do both and has as many requests on their way as there are messages.
 * `none` is Aedes alone, with nothing behind it.
 * Arguments: brokers, topic, idempotent, plain or none. Prints its port.
 */
const [brokers = '', topic = '', promise = 'plain'] = process.argv.slice(2)

const producer = new Kafka({
  clientId: 'aedes-kafkajs',
  brokers: brokers.split(','),
  logLevel: logLevel.ERROR,
}).producer({ idempotent: promise === 'idempotent' })
if (promise !== 'none') await producer.connect()

const broker = await Aedes.createBroker({
  authorizePublish(client, packet, answer) {
    if (promise === 'none') return answer(null)
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
