-- Returns whether there is such a record; it no longer expires.
-- KEYS: record
redis.call('PERSIST', KEYS[1])
return redis.call('EXISTS', KEYS[1])
