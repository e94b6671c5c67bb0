import { insidePrefix } from './device-topics.ts'
import { membersOf } from './fleet-body.ts'
import type { Front } from './front.ts'
import type { Message } from './message.ts'
import type { PublishTopic } from './topic.ts'
import type { Watchers } from './watchers.ts'

/** Whether somebody may see the telemetry of a topic; looked at again only after somebody's subscriptions have changed. */
export function isWatched(topic: PublishTopic, watchers: Watchers): boolean {
  if (topic.watchedEpoch !== watchers.epoch) {
    topic.watchedEpoch = watchers.epoch
    topic.isWatched = topic.use === 'fleet_body' || (topic.use === 'telemetry' && watchers.covers(topic.inside))
  }
  return topic.isWatched
}

/** Telemetry that is stored, for those who have subscribed to it: QoS 0, each device's part of a fleet body on the topic of that device. */
export function showTelemetry({ broker, watchers }: Front, message: Message, inside: string): void {
  const { topic, payload, parkedDevices, principal } = message
  const members = membersOf(topic, payload)
  if (members === undefined) broker.publish(inside, payload)
  else
    for (const { key, value } of members) {
      const own = `${insidePrefix({ tenant: principal.tenant, device: key })}telemetry`
      if (parkedDevices?.has(key) !== true && watchers.covers(own)) broker.publish(own, value)
    }
}
