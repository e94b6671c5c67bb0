-- A message for all gateways: it gets its number, goes into the queues of the sessions that want it, is retained, and is told to all.
-- KEYS 1 sequence, 2 retained, 3 tenants with retained messages, 4… listeners
-- ARGV 1 message, 2 channel, 3 topic, 4 QoS, 5 '' for not retained, 'keep' or 'remove', 6 inside id of its sender, 7 and 8 messages and bytes
--      that wait for one session at most, 9 prefix, 10 ms that retained messages are kept without any gateway, 11 tenant
-- returns the number, and for how many sessions there was no room
local time = redis.call('TIME')
local sequence = math.max(time[1] * 1000000 + time[2], (tonumber(redis.call('GET', KEYS[1])) or 0) + 1)
local text = string.format('%.0f', sequence)
redis.call('SET', KEYS[1], text, 'PX', 86400000)
local message, prefix, dropped = text .. '\n' .. ARGV[1], ARGV[9], 0

if ARGV[5] == 'keep' then
  redis.call('HSET', KEYS[2], ARGV[3], message)
  redis.call('PEXPIRE', KEYS[2], ARGV[10])
  redis.call('SADD', KEYS[3], ARGV[11])
  redis.call('PEXPIRE', KEYS[3], ARGV[10])
elseif ARGV[5] == 'remove' then
  redis.call('HDEL', KEYS[2], ARGV[3])
end

if ARGV[4] ~= '0' then
  local function levelsOf(name)
    local levels = {}
    for level in string.gmatch(name .. '/', '([^/]*)/') do levels[#levels + 1] = level end
    return levels
  end
  local topic = levelsOf(ARGV[3])
  local function covers(filter)
    local levels = levelsOf(filter)
    for at, level in ipairs(levels) do
      if level == '#' then return true end
      if at > #topic or (level ~= '+' and level ~= topic[at]) then return false end
    end
    return #levels == #topic
  end
  local seen = {}
  for at = 4, #KEYS do
    for _, id in ipairs(redis.call('SMEMBERS', KEYS[at])) do
      local session, queue = prefix .. 'session:' .. id, prefix .. 'queue:' .. id
      local kept = redis.call('HMGET', session, 'match', 'bytes')
      if not kept[1] then
        redis.call('SREM', KEYS[at], id)
      elseif not seen[id] then
        local wanted = false
        for noLocal, filter in string.gmatch(kept[1], '([01])([^%z]*)%z') do
          if not (noLocal == '1' and id == ARGV[6]) and covers(filter) then
            wanted = true
            break
          end
        end
        if wanted then
          seen[id] = true
          local count, bytes = redis.call('XLEN', queue), tonumber(kept[2]) or 0
          if count < tonumber(ARGV[7]) and (count == 0 or bytes + #message <= tonumber(ARGV[8])) then
            if redis.pcall('XADD', queue, text .. '-0', 'm', message).err then
              dropped = dropped + 1
            else
              redis.call('HSET', session, 'bytes', count == 0 and #message or bytes + #message)
              redis.call('PEXPIRE', queue, redis.call('PTTL', session))
            end
          else
            dropped = dropped + 1
          end
        end
      end
    end
  end
end
redis.call('PUBLISH', ARGV[2], 'm' .. message)
return { text, dropped }
