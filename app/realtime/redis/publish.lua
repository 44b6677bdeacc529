-- Appends to a stream and hands the publication to the nodes that have a subscriber.
--
-- KEYS: meta, stream, idempotency keys, their order, the user's pub/sub channel.
-- ARGV: channel, the publication's JSON up to its offset, ticket, "1" if this is another attempt, idempotency key, size,
--   ttl, streams, idempotency ttl, idempotency keys, epoch for a new stream, lineage, deadline.
-- Reply: {kind, offset, epoch}; kind 0 published, 1 duplicate, 2 too late, 3 too many streams.

local channel, head, ticket, again, idempotency = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local size, ttl, limit, idempotency_ttl, idempotency_limit =
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local now = clock()
-- Whoever sent this has given it up; a later attempt may be here already.
if now > tonumber(ARGV[13]) then return {2, 0, ''} end

local name, forgotten = #channel .. ' ' .. channel .. idempotency, false
if idempotency ~= '' then
  local first = redis.call('HGET', KEYS[3], name)
  if first then
    local offset, epoch, expires = string.match(first, '^(%d+) (%S+) (%d+)$')
    if tonumber(expires) > now then
      local entry = again == '1' and redis.call('XRANGE', KEYS[2], offset .. '-0', offset .. '-0')[1]
      -- The key is remembered of the earlier attempt of this very publish: it is no other's.
      local kind = entry and entry[2][4] == ticket and 0 or 1
      return {kind, tonumber(offset), epoch}
    end
    forgotten = true
  end
end

local top, epoch, held = open(KEYS[1], KEYS[2], channel, now, ttl, limit, ARGV[11], ARGV[12])
if not top then return {3, 0, ''} end
if again == '1' then
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-')) do
    if entry[2][4] == ticket then return {0, tonumber(string.match(entry[1], '^%d+')), epoch} end
  end
end

local offset = top + 1
local text = head .. string.format('%.0f', offset) .. '}'
if size > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', size, string.format('%.0f-0', offset), 't', text, 'k', ticket)
  redis.call('PEXPIRE', KEYS[2], ttl)
end
redis.call('HSET', KEYS[1], 'c' .. channel, string.format('%.0f %s %.0f %s', offset, epoch, now + ttl, ARGV[12]))
redis.call('PEXPIRE', KEYS[1], math.max(ttl, held - now))

if idempotency ~= '' then
  if forgotten then redis.call('LREM', KEYS[4], 1, name) end
  redis.call('HSET', KEYS[3], name, string.format('%.0f %s %.0f', offset, epoch, now + idempotency_ttl))
  redis.call('RPUSH', KEYS[4], name)
  while redis.call('LLEN', KEYS[4]) > idempotency_limit do
    redis.call('HDEL', KEYS[3], redis.call('LPOP', KEYS[4]))
  end
  redis.call('PEXPIRE', KEYS[3], idempotency_ttl)
  redis.call('PEXPIRE', KEYS[4], idempotency_ttl)
end

-- Not by `%s`, which ends a short string at its first zero byte.
redis.call('SPUBLISH', KEYS[5], string.format('p%.0f %s %s %d ', offset, epoch, ticket, #channel) .. channel .. text)
return {0, offset, epoch}
