-- Reads a stream and its top position; reading starts a stream.
--
-- KEYS: meta, stream.
-- ARGV: channel, offset to begin behind or -1, its epoch or "", limit, "1" for newest first, ttl, streams, epoch for a new
--   stream, lineage.
-- Reply: {kind, offset, epoch, entries}; kind 0 read, 1 the position is of another epoch, 2 too many streams.

local since, limit = tonumber(ARGV[2]), tonumber(ARGV[4])
local top, epoch =
  open(KEYS[1], KEYS[2], ARGV[1], clock(), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9])
if not top then return {2, 0, '', {}} end
if since >= 0 and ARGV[3] ~= '' and ARGV[3] ~= epoch then return {1, top, epoch, {}} end
if limit == 0 then return {0, top, epoch, {}} end

local command
if ARGV[5] == '1' then
  if since == 0 then return {0, top, epoch, {}} end
  command = {'XREVRANGE', KEYS[2], since > 0 and string.format('%.0f-0', since - 1) or '+', '-'}
else
  command = {'XRANGE', KEYS[2], since >= 0 and string.format('%.0f-0', since + 1) or '-', '+'}
end
if limit > 0 then
  command[5], command[6] = 'COUNT', limit
end
local texts = {}
for _, entry in ipairs(redis.call(unpack(command))) do
  texts[#texts + 1] = tonumber(string.match(entry[1], '^%d+'))
  texts[#texts + 1] = entry[2][2]
end
return {0, top, epoch, texts}
