-- Reads who is in a channel, and forgets whom nobody speaks for any more, because their node is gone.
--
-- KEYS: the channel's presence. Reply: client, info, client, info...

local now, present = clock(), {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local expires, info = string.match(all[i + 1], '^(%d+) (.*)$')
  if tonumber(expires) > now then
    present[#present + 1], present[#present + 2] = all[i], info
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return present
