-- Keeps the filters of a session.
-- KEYS 1 session
-- ARGV 1 inside id, 2 epoch, 3 filters, 4 those with QoS 1 or 2: '1' for no local or '0', and the filter, each with a NUL behind it,
--      5 groups of those, each with a NUL behind it, 6 prefix, 7 ms that a set of listeners is kept
-- returns 0 when a later connection has it
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[2] then return 0 end
local old = redis.call('HGET', KEYS[1], 'groups') or ''
for group in string.gmatch(old, '[^%z]+') do redis.call('SREM', ARGV[6] .. 'listeners:' .. group, ARGV[1]) end
for group in string.gmatch(ARGV[5], '[^%z]+') do
  redis.call('SADD', ARGV[6] .. 'listeners:' .. group, ARGV[1])
  redis.call('PEXPIRE', ARGV[6] .. 'listeners:' .. group, ARGV[7])
end
redis.call('HSET', KEYS[1], 'filters', ARGV[3], 'match', ARGV[4], 'groups', ARGV[5])
return 1
