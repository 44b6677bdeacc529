-- The streams of a user. KEYS: meta. ARGV: lineage. Reply: channel, offset, epoch, channel...
--
-- Their lengths are read by the caller, as a script may not touch keys that it was not given.

local now, streams = clock(), {}
local held = tonumber(redis.call('HGET', KEYS[1], 'h') or 0)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= 'h' then
    local offset, epoch, expires, writer = string.match(all[i + 1], '^(%d+) (%S+) (%d+) (.*)$')
    if writer == ARGV[1] and (tonumber(expires) > now or held > now) then
      streams[#streams + 1] = string.sub(all[i], 2)
      streams[#streams + 1] = tonumber(offset)
      streams[#streams + 1] = epoch
    end
  end
end
return streams
