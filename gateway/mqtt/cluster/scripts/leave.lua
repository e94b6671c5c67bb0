-- The connection of an epoch is over; the record stays for as long as its session, if it has one.
-- KEYS 1 session, 2 queue, 3 device
-- ARGV 1 inside id, 2 epoch, 3 seconds that the session stays, 4 prefix
-- returns 0 when a later connection has it
local now = redis.call('HGET', KEYS[1], 'epoch')
if now ~= ARGV[2] then return 0 end
local seconds = tonumber(ARGV[3])
if seconds == 0 then
  local groups = redis.call('HGET', KEYS[1], 'groups') or ''
  for group in string.gmatch(groups, '[^%z]+') do redis.call('SREM', ARGV[4] .. 'listeners:' .. group, ARGV[1]) end
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('SREM', KEYS[3], ARGV[1])
  return 1
end
redis.call('HSET', KEYS[1], 'live', '0', 'seconds', seconds)
redis.call('PEXPIRE', KEYS[1], seconds * 1000)
redis.call('PEXPIRE', KEYS[2], seconds * 1000)
redis.call('PEXPIRE', KEYS[3], seconds * 1000)
return 1
