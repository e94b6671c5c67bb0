-- A gateway tells what it has of a client after Redis was away: the later epoch wins.
-- KEYS 1 session, 2 queue, 3 device, 4 sequence
-- ARGV 1 inside id, 2 gateway, 3 epoch, 4 '1' when it is connected, 5 seconds, 6 rights, 7 channel, 8 ms until the record ends by itself,
--      9 prefix, then pairs of a message's number ('0': it has none) and the message, which go into a queue that misses them
-- returns '0' when a later connection has it; else the epoch, and the numbers of the messages
local time = redis.call('TIME')
local old = redis.call('HMGET', KEYS[1], 'epoch', 'gateway', 'live')
if old[1] and tonumber(old[1]) > tonumber(ARGV[3]) then return { '0' } end
redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 'gateway', ARGV[2], 'live', ARGV[4], 'seconds', ARGV[5], 'rights', ARGV[6])
local wasLost = redis.call('XLEN', KEYS[2]) == 0
local sequence = math.max(time[1] * 1000000 + time[2], (tonumber(redis.call('GET', KEYS[4])) or 0) + 1)
local numbers, bytes = { ARGV[3] }, 0
for at = 10, #ARGV, 2 do
  local number = ARGV[at]
  if number == '0' or wasLost then
    number = string.format('%.0f', sequence)
    local message = number .. '\n' .. ARGV[at + 1]
    if redis.pcall('XADD', KEYS[2], number .. '-0', 'm', message).err then number = ARGV[at] else bytes = bytes + #message end
    sequence = sequence + 1
  end
  numbers[#numbers + 1] = number
end
redis.call('SET', KEYS[4], string.format('%.0f', sequence), 'PX', 86400000)
if bytes > 0 then redis.call('HINCRBY', KEYS[1], 'bytes', bytes) end
redis.call('PEXPIRE', KEYS[1], ARGV[8])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
if tonumber(ARGV[5]) > 0 then
  redis.call('SADD', KEYS[3], ARGV[1])
  redis.call('PEXPIRE', KEYS[3], ARGV[8])
end
if ARGV[4] == '1' and old[3] == '1' and old[2] ~= ARGV[2] then
  local notice = cjson.encode({ id = ARGV[1], epoch = ARGV[3], gateway = ARGV[2], from = '', resumes = true })
  redis.call('PUBLISH', ARGV[7], 't' .. notice)
end
return numbers
