-- Returns nil when there is no such log, else the index of its first entry, its next index and the entries.
-- KEYS: log. ARGV: from, limit
local key, from, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('LLEN', key) - 1
if kept < 0 then
  return nil
end
local first = tonumber(string.match(redis.call('LINDEX', key, 0), '%d+'))
local entries = {}
if from >= first and from < first + kept and limit > 0 then
  local at = from - first + 1
  entries = redis.call('LRANGE', key, at, at + limit - 1)
end
return {first, first + kept, entries}
