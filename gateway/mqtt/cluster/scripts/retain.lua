-- Brings retained messages to a Redis that has not got them, or only older ones.
-- KEYS 1 retained, 2 tenants with retained messages
-- ARGV 1 ms that they are kept without any gateway, 2 tenant, then triples of topic, number and message; an empty message removes the topic's
for at = 3, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[at])
  local number = stored and tonumber(string.match(stored, '^%d+')) or 0
  if number <= tonumber(ARGV[at + 1]) then
    if ARGV[at + 2] == '' then redis.call('HDEL', KEYS[1], ARGV[at])
    else redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1] .. '\n' .. ARGV[at + 2]) end
  end
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
