-- A connection takes a client id: it gets the next epoch, and every gateway is told. Epochs are microseconds of this Redis' clock, or one more
-- than the last, so that they rise even after their key is gone.
-- KEYS 1 session, 2 queue, 3 device
-- ARGV 1 inside id, 2 gateway, 3 an epoch that it has to be above, 4 '1' for a clean start, 5 seconds that the session outlives the
--      connection, 6 rights, 7 channel, 8 ms until the record ends by itself, 9 prefix
-- returns epoch, 1 when it goes on with a session, 1 when a live gateway has to let go first, the epoch before
local id, gateway, seconds, prefix = ARGV[1], ARGV[2], tonumber(ARGV[5]), ARGV[9]
local function drop(other)
  local groups = redis.call('HGET', prefix .. 'session:' .. other, 'groups')
  if groups then
    for group in string.gmatch(groups, '[^%z]+') do redis.call('SREM', prefix .. 'listeners:' .. group, other) end
  end
  redis.call('DEL', prefix .. 'session:' .. other, prefix .. 'queue:' .. other)
  redis.call('SREM', KEYS[3], other)
end

local time = redis.call('TIME')
local old = redis.call('HMGET', KEYS[1], 'epoch', 'gateway', 'live', 'seconds', 'rights')
local epoch = math.max(time[1] * 1000000 + time[2], (tonumber(old[1]) or 0) + 1, tonumber(ARGV[3]) + 1)
local text = string.format('%.0f', epoch)
local present = ARGV[4] == '0' and (tonumber(old[4]) or 0) > 0 and old[5] == ARGV[6]
local elsewhere = old[3] == '1' and old[2] ~= gateway and redis.call('EXISTS', prefix .. 'gateway:' .. old[2]) == 1
if not present then drop(id) end
redis.call('HSET', KEYS[1], 'epoch', text, 'gateway', gateway, 'live', '1', 'seconds', seconds, 'rights', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[8])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
if seconds > 0 then
  -- A device has one session that waits.
  for _, other in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    if other ~= id and redis.call('HGET', prefix .. 'session:' .. other, 'live') ~= '1' then drop(other) end
  end
  redis.call('SADD', KEYS[3], id)
  redis.call('PEXPIRE', KEYS[3], ARGV[8])
end
local notice = cjson.encode({ id = id, epoch = text, gateway = gateway, from = elsewhere and old[2] or '', resumes = present })
redis.call('PUBLISH', ARGV[7], 't' .. notice)
return { text, present and 1 or 0, elsewhere and 1 or 0, old[1] or '0' }
