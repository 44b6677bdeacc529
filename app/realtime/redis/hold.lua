-- Says that the positions of a user's streams are to be held for so long, as a node has, or just had, a subscriber.
--
-- KEYS: meta. ARGV: milliseconds.

if redis.call('EXISTS', KEYS[1]) == 1 then
  -- In this order, as a server that is full refuses the first write of a script alone: positions must not go by that.
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  redis.call('HSET', KEYS[1], 'h', string.format('%.0f', clock() + ARGV[1]))
end
