-- Before each script that works on streams. All keys of a user lie in one slot.
--
-- A user's meta key is a hash: of each channel ("c" and its name) "offset epoch expires lineage", and under "h" until
-- when positions are held although their publications have expired, because a node has a subscriber. Times are
-- milliseconds of the server's own clock.

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Takes expired streams away and says whether there is room for one more.
local function has_room(meta, now, held, limit)
  local streams = redis.call('HLEN', meta) - redis.call('HEXISTS', meta, 'h')
  if streams < limit then return true end
  if held > now then return false end
  local all = redis.call('HGETALL', meta)
  for i = 1, #all, 2 do
    if all[i] ~= 'h' and tonumber(string.match(all[i + 1], '^%d+ %S+ (%d+)')) <= now then
      redis.call('HDEL', meta, all[i])
      streams = streams - 1
    end
  end
  return streams < limit
end

-- Offset and epoch of a stream, started if there is none, or if it was written by another server: after a failover
-- nobody knows whether all of it is here. Nil when it would be one too many.
local function open(meta, stream, channel, now, ttl, limit, epoch, lineage)
  local found = redis.call('HMGET', meta, 'c' .. channel, 'h')
  local held = tonumber(found[2] or 0)
  if found[1] then
    local offset, known, expires, writer = string.match(found[1], '^(%d+) (%S+) (%d+) (.*)$')
    if writer == lineage and (tonumber(expires) > now or held > now) then return tonumber(offset), known, held end
  elseif not has_room(meta, now, held, limit) then
    return nil
  end
  -- First what needs memory: a server that is full refuses the first write of a script alone.
  redis.call('HSET', meta, 'c' .. channel, '0 ' .. epoch .. ' ' .. string.format('%.0f', now + ttl) .. ' ' .. lineage)
  redis.call('DEL', stream)
  redis.call('PEXPIRE', meta, math.max(ttl, held - now))
  return 0, epoch, held
end

