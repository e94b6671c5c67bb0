import type { Position } from './positions.ts'
import type { TopicAdmin } from './topic-admin.ts'

/** Each is a question to Kafka; alerts ask for one half and three quarters. */
const steps = [0.25, 0.5, 0.75, 0.9] as const

/**
 * For which share of Kafka's retention records have waited unread, in steps: at 1 they are deleted before they became rows. By time, not by
 * records: what came in since the topic was made may all be unread and yet be in no danger.
 */
export async function unreadRetention(
  positions: readonly Position[],
  admin: Pick<TopicAdmin, 'retentionMs' | 'offsetsAt'>,
  nowMs: number,
): Promise<number> {
  let ratio = 0
  const behind = positions.filter(({ next, stored, high }) => (next !== undefined || stored > 0) && stored < high)
  for (const [topic, members] of Map.groupBy(behind, (position) => position.topic)) {
    const retentionMs = await admin.retentionMs(topic)
    if (retentionMs === undefined) continue
    for (const step of steps) {
      const offsets = await admin.offsetsAt(topic, Math.round(nowMs - step * retentionMs))
      if (!members.some(({ partition, stored }) => stored < (offsets.get(partition) ?? 0))) break
      ratio = Math.max(ratio, step)
    }
  }
  return ratio
}
