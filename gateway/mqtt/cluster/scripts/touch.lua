-- A connection is still there: its record must not end before it.
-- KEYS 1 session, 2 queue, 3 device
-- ARGV 1 epoch, 2 ms until the record ends by itself
-- returns the epoch of who has it, or nothing when the record is lost
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
end
return epoch
