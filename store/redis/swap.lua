-- Returns -1 when there is no such record, 0 when it is not the old one, else 1.
-- KEYS: record. ARGV: old, new, ttl in ms or 0
local value = redis.call('GET', KEYS[1])
if not value then
  return -1
elseif value ~= ARGV[1] then
  return 0
elseif ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
