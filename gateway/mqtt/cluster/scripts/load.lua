-- What a session consists of, as of one moment.
-- KEYS 1 session, 2 queue, 3 sequence
-- ARGV 1 epoch
-- returns nothing when a later connection has it; else the number of the last message of all, the filters, and the entries of the queue
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return {} end
return { redis.call('GET', KEYS[3]) or '0', redis.call('HGET', KEYS[1], 'filters') or '[]', redis.call('XRANGE', KEYS[2], '-', '+') }
