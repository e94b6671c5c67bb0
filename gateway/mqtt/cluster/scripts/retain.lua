-- Brings retained messages to a Redis that has not got them, or only older ones, and to gateways that have been there before.
-- KEYS 1 retained, 2 tenants with retained messages
-- ARGV 1 ms that they are kept without any gateway, 2 tenant, 3 channel, then triples of topic, number and message; an empty message removes the topic's
for at = 4, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[at])
  local number = stored and tonumber(string.match(stored, '^%d+')) or 0
  local mine = tonumber(ARGV[at + 1])
  if ARGV[at + 2] == '' and number <= mine then
    redis.call('HDEL', KEYS[1], ARGV[at])
    redis.call('PUBLISH', ARGV[3], 'x' .. ARGV[at + 1] .. '\n' .. ARGV[at])
  elseif ARGV[at + 2] ~= '' and number < mine then
    local message = ARGV[at + 1] .. '\n' .. ARGV[at + 2]
    redis.call('HSET', KEYS[1], ARGV[at], message)
    redis.call('PUBLISH', ARGV[3], 'k' .. message)
  end
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
