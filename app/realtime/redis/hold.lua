-- Says that the positions of a user's streams are to be held for so long, as a node has, or just had, a subscriber.
--
-- KEYS: meta. ARGV: milliseconds.

if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'h', string.format('%.0f', clock() + ARGV[1]))
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
