/** Whether a topic filter covers a topic name (MQTT 5.0 §4.7.1). */
export function covers(filter: string, topic: string): boolean {
  const filterLevels = filter.split('/')
  const topicLevels = topic.split('/')
  for (let index = 0; index < filterLevels.length; index++) {
    const level = filterLevels[index]
    if (level === '#') return true
    if (index >= topicLevels.length || (level !== '+' && level !== topicLevels[index])) return false
  }
  return filterLevels.length === topicLevels.length
}
