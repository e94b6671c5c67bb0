-- Hands out tokens of buckets in advance and takes back what was not spent. Refill follows RFC 2697 §3, by the clock of this server.
-- KEYS     one bucket each; its value is two little-endian doubles: tokens used since it was full, and when (microseconds)
-- ARGV[1]  JSON array: for each key eight numbers: burst; seconds; back, tokens that return; hand, tokens that the asker still has of it;
--          over, one cost above the burst, which passes from a full bucket and leaves it in debt (then the rest is not granted);
--          modest and greedy, whole tokens that are asked for; reserve, tokens that have to be left by the greedy
-- returns  for each key two integers: tokens granted, and microseconds until the bucket is full again
-- A key that gets and returns nothing is not written, so a look, or a flood over the limit, makes no replication traffic.

local ask = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local min, max, floor, ceil = math.min, math.max, math.floor, math.ceil

local reply = {}
local CHUNK = 1000 -- unpack is bounded by the Lua stack
for first = 1, #KEYS, CHUNK do
  local last = min(first + CHUNK - 1, #KEYS)
  local values = redis.call('MGET', unpack(KEYS, first, last))
  for key = first, last do
    local at = 8 * (key - 1)
    local burst, back, hand, over = ask[at + 1], ask[at + 3], ask[at + 4], ask[at + 5]
    local rate = burst / (ask[at + 2] * 1000000)
    local used, changed = 0, back > 0
    local value = values[key - first + 1]
    if value and #value == 16 then
      local level, since = struct.unpack('<dd', value)
      if since > now then
        -- The clock went back, as after a failover: without a new date the bucket would not refill until it has caught up.
        used, changed = level, true
      else
        used = max(0, level - (now - since) * rate)
      end
    end
    used = max(0, used - back)
    local granted = 0
    local rounding = burst * 1e-9 -- no reason to wait
    if over > 0 and used - hand <= rounding then
      granted = max(0, over - hand)
    else
      local room = burst - used + rounding
      granted = max(0, floor(min(ask[at + 7], room - ask[at + 8])))
      granted = granted + max(0, floor(min(ask[at + 6], room - granted)))
    end
    used = used + granted
    if changed or granted > 0 then
      -- A key lives until its bucket is full again: an absent bucket is a full one.
      local ttl = max(1, ceil(used / rate / 1000))
      redis.call('SET', KEYS[key], struct.pack('<dd', used, now), 'PX', string.format('%.0f', ttl))
    end
    reply[2 * key - 1], reply[2 * key] = granted, ceil(used / rate)
  end
end
return reply
