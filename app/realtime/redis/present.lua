-- Says that a connection is in a channel, for so long.
--
-- KEYS: the channel's presence. ARGV: client, milliseconds, info.

-- What is said again needs no more memory, and a server that is full refuses the first write of a script alone.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', clock() + ARGV[2]) .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
