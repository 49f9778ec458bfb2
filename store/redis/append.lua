-- Appends to a log, which is one list: "first bytes", then the entries. first is the index of the first
-- entry kept, bytes the sum of their sizes. Returns 0 when the log does not end at index at, else 1.
-- KEYS: log. ARGV: at, largest number of entries, of bytes, ttl in ms or 0, channel, entry...
local key, at, max_entries, max_bytes = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept, first, bytes = redis.call('LLEN', key), 0, 0
local head = kept > 0
if head then
  kept = kept - 1
  local a, b = string.match(redis.call('LINDEX', key, 0), '(%d+) (%d+)')
  first, bytes = tonumber(a), tonumber(b)
end
if first + kept ~= at then
  return 0
end

local i, n = 6, #ARGV
for j = i, n do
  bytes = bytes + #ARGV[j]
end
local function over()
  local total = kept + n - i + 1
  return total > 1 and (total > max_entries or bytes > max_bytes)
end
if kept > 0 and over() then
  redis.call('LPOP', key)
  head = false
  while kept > 0 and over() do
    bytes = bytes - #redis.call('LPOP', key)
    kept, first = kept - 1, first + 1
  end
end
while over() do
  bytes = bytes - #ARGV[i]
  i, first = i + 1, first + 1
end

for j = i, n, 1000 do -- Lua's stack bounds the number of arguments
  redis.call('RPUSH', key, unpack(ARGV, j, math.min(j + 999, n)))
end
local meta = string.format('%.0f %.0f', first, bytes)
if head then
  redis.call('LSET', key, 0, meta)
else
  redis.call('LPUSH', key, meta)
end
if tonumber(ARGV[4]) > 0 then
  redis.call('PEXPIRE', key, ARGV[4])
else
  redis.call('PERSIST', key)
end
redis.call('PUBLISH', ARGV[5], '')
return 1
