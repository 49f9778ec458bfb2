-- Writes and publishes to nobody.
-- KEYS: record. ARGV: channel
redis.call('SET', KEYS[1], '', 'PX', 1000)
redis.call('PUBLISH', ARGV[1], '')
return 1
