-- Spends costs on token buckets, each all or none, in order. Refill follows RFC 2697 §3, by the clock of this server.
-- KEYS     one bucket each; its value is two little-endian doubles: tokens used since it was full, and when (microseconds)
-- ARGV[1]  JSON: rules = [[burst, seconds], ...]; ruleOf = for each key the index of its rule, from 1;
--          costs = numbers in a row, for each cost: how often in succession, how many keys, then pairs of key (from 1) and amount
-- returns  for each refused cost three integers: its index from 0 (repeats count), the wait in milliseconds, the index of the rule
-- Nothing is written for a refusal, so a flood over the limit makes no replication traffic.

local ask = cjson.decode(ARGV[1])
local rules, ruleOf, costs = ask.rules, ask.ruleOf, ask.costs
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local used, burst, rate, changed = {}, {}, {}, {}
local CHUNK = 1000 -- unpack is bounded by the Lua stack
for first = 1, #KEYS, CHUNK do
  local last = math.min(first + CHUNK - 1, #KEYS)
  local values = redis.call('MGET', unpack(KEYS, first, last))
  for key = first, last do
    local rule = rules[ruleOf[key]]
    burst[key] = rule[1]
    rate[key] = rule[1] / (rule[2] * 1000000)
    used[key] = 0
    local value = values[key - first + 1]
    if value and #value == 16 then
      local level, at = struct.unpack('<dd', value)
      if at > now then
        -- The clock went back, as after a failover: without a new date the bucket would not refill until it has caught up.
        used[key], changed[key] = level, true
      else
        used[key] = math.max(0, level - (now - at) * rate[key])
      end
    end
  end
end

local refused = {}
local index, position, finish = 0, 1, #costs
while position <= finish do
  local from, to = position + 2, position + 1 + 2 * costs[position + 1]
  for _ = 1, costs[position] do
    local wait, rule = 0, 0
    for part = from, to, 2 do
      local key = costs[part]
      local over = used[key] + math.min(costs[part + 1], burst[key]) - burst[key] * (1 + 1e-9) -- rounding is no reason to wait
      if over > 0 then
        local ms = math.ceil(over / rate[key] / 1000)
        if ms > wait then
          wait, rule = ms, ruleOf[key]
        end
      end
    end
    if wait == 0 then
      for part = from, to, 2 do
        local key = costs[part]
        used[key] = used[key] + costs[part + 1]
        changed[key] = true
      end
    else
      local length = #refused
      refused[length + 1], refused[length + 2], refused[length + 3] = index, wait, rule
    end
    index = index + 1
  end
  position = to + 1
end

for key in pairs(changed) do
  -- A key lives until its bucket is full again: an absent bucket is a full one.
  local ttl = math.max(1, math.ceil(used[key] / rate[key] / 1000))
  redis.call('SET', KEYS[key], struct.pack('<dd', used[key], now), 'PX', string.format('%.0f', ttl))
end
return refused
