-- Says that a gateway is alive, and counts those that are.
-- KEYS[1]  sorted set of gateways, scored by when each was last heard of (milliseconds of this server's clock)
-- ARGV[1]  the gateway's id; ARGV[2]  milliseconds after which a silent gateway is no longer counted
-- returns  how many are alive, at least 1

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local aliveMs = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - aliveMs))
-- Scores from before the clock went back would never grow old.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + aliveMs), '+inf')
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', aliveMs))
return redis.call('ZCARD', KEYS[1])
