import { pingBrokers } from '#platform/kafka-wire.ts'
import { type Check, fail, ok, ServerAway, warn } from './check.ts'
import { textOf } from './run-checks.ts'

const answerMs = 3000

export const kafkaBrokers: Check = {
  name: 'kafka',
  async run({ config, kafka }) {
    const { brokers } = config.kafka
    if (brokers === undefined) return [ok('not used: no KAFKA_BROKERS')]
    const outcomes = await Promise.allSettled(brokers.map((broker) => pingBrokers([broker], answerMs)))
    const silent = outcomes.flatMap((outcome, index) =>
      outcome.status === 'rejected' ? [`${brokers[index]} (${textOf(outcome.reason)})`] : [],
    )
    if (silent.length === brokers.length)
      return [
        fail(
          `no broker answers: ${silent.join(', ')}`,
          'Start Kafka, or mend KAFKA_BROKERS. Devices are held, then refused, meanwhile.',
        ),
      ]
    try {
      const { brokers: members } = await (await kafka()).describeCluster()
      const findings = [
        ok(
          `${brokers.length - silent.length} of ${brokers.length} in KAFKA_BROKERS answer; the cluster has ${members.length} broker(s)`,
        ),
      ]
      if (silent.length > 0)
        findings.push(
          warn(`these do not answer: ${silent.join(', ')}`, 'Start them, or take them out of KAFKA_BROKERS.'),
        )
      return findings
    } catch (error) {
      // It accepts connections and answers the simplest question only: its advertised listeners may lead elsewhere.
      if (error instanceof ServerAway)
        return [
          fail(
            error.message,
            'The broker itself answers: look at its advertised.listeners, by which clients are sent on.',
          ),
        ]
      throw error
    }
  },
}
