-- Says that a connection is in a channel, for so long.
--
-- KEYS: the channel's presence. ARGV: client, milliseconds, info.

redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', clock() + ARGV[2]) .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
