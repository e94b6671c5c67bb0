-- A session is done with messages.
-- KEYS 1 session, 2 queue
-- ARGV their numbers
local bytes = 0
for _, number in ipairs(ARGV) do
  local entry = redis.call('XRANGE', KEYS[2], number .. '-0', number .. '-0')[1]
  if entry then
    bytes = bytes + #entry[2][2]
    redis.call('XDEL', KEYS[2], number .. '-0')
  end
end
if bytes > 0 and redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HINCRBY', KEYS[1], 'bytes', -bytes) end
return bytes
