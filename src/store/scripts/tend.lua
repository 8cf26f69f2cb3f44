-- Looks after what a gateway holds of one key.
--
-- KEYS: the key. ARGV: the time in microseconds, or "" for this server's own; then what to do:
--   "tokens" WORTH TAKEN_AT TAT DISTURBANCES
--                               tokens go back to a bucket, as far as time has not refilled them since. All of them are there as
--                               long as the bucket lacks as much, unless it was disturbed: lowered by anything but the undoing of
--                               its last draw. Then only this is certain: time has refilled no more than it has passed
--   "counts" SLICE COST LENGTH  tokens go back to the slice of a window that counted them
--   "slots" NAME...             slots go back
--   "renew" TTL NAME...         slots are held on
--   "probe"                     something is written, to see whether that can be
--   "seen" TTL NAME PARTS MORE  a gateway is there, and goes on with one of PARTS parts of each limit if Redis fails now (0: with none).
--                               Answers how many parts it is to cut limits into from now on, which one is its own, and how many
--                               gateways there are. A smaller part may always be taken; a larger one, or its first, only where MORE
--                               is 1 and all others have parts as small. KEYS: the names; the parts that gateways may have, each the
--                               larger of what it had and was told. So all of them together are never more than the whole
--   "gone" NAME                 a gateway is there no more. KEYS: the same
-- Times as in decide.lua.

local now, tested = tonumber(ARGV[1]), ARGV[1] ~= ''
if not tested then
  local time = redis.call('TIME')
  now = (time[1] - 1577836800) * 1000000 + time[2]
end

local function exact(number)
  return string.format('%.17g', number)
end

local function expire_ms(us)
  local ms = math.min(math.ceil(us / 1000) + 1000, 4e12)
  if tested then ms = math.max(ms, 600000) end
  return string.format('%.0f', ms)
end

local key, deed = KEYS[1], ARGV[2]
if deed == 'tokens' then
  local kept = redis.call('GET', key)
  local worth, taken_at, tat_after, seen = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
  if kept then
    local tat, expires, interval, most, disturbances = struct.unpack('<ddddH', kept)
    local back = worth - math.max(now - taken_at, 0)
    if disturbances == seen then back = math.min(worth, tat_after - now) end
    if back > 0 then
      if tat ~= tat_after then disturbances = (disturbances + 1) % 65536 end
      tat = tat - back
      if tat > now then
        redis.call('SET', key, struct.pack('<ddddH', tat, expires, interval, most, disturbances), 'KEEPTTL')
      else
        redis.call('DEL', key)
      end
    end
  end
elseif deed == 'counts' then
  local length, count = redis.call('HGET', key, 's'), tonumber(redis.call('HGET', key, ARGV[3]) or '0')
  if length and tonumber(length) == tonumber(ARGV[5]) and count > 0 then
    redis.call('HINCRBY', key, ARGV[3], -math.min(tonumber(ARGV[4]), count))
  end
elseif deed == 'slots' then
  for i = 3, #ARGV do redis.call('ZREM', key, ARGV[i]) end
elseif deed == 'renew' then
  local ttl = tonumber(ARGV[3])
  for i = 4, #ARGV do redis.call('ZADD', key, exact(now + ttl), ARGV[i]) end
  redis.call('PEXPIRE', key, expire_ms(ttl))
elseif deed == 'probe' then
  redis.call('SET', key, '', 'PX', 1000)
elseif deed == 'seen' then
  local ttl, parts = tonumber(ARGV[3]), KEYS[2]
  -- First what a full server refuses: once something has been written, it lets the rest pass.
  redis.call('ZADD', key, exact(now + ttl), ARGV[4])
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', exact(now))) do redis.call('HDEL', parts, gone) end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', exact(now))
  redis.call('PEXPIRE', key, expire_ms(ttl))
  local names, place, room = redis.call('ZRANGE', key, 0, -1), 0, ARGV[6] == '1'
  table.sort(names)
  for i, name in ipairs(names) do
    if name == ARGV[4] then
      place = i - 1
    else
      local others = tonumber(redis.call('HGET', parts, name) or '0')
      if others > 0 and others < #names then room = false end
    end
  end
  local had, has = tonumber(ARGV[5]), #names
  if (had == 0 or has < had) and not room then has = had end
  local most = has
  if had > 0 then most = math.min(had, has) end
  redis.call('HSET', parts, ARGV[4], most)
  redis.call('PEXPIRE', parts, expire_ms(ttl))
  return {has, place, #names}
elseif deed == 'gone' then
  redis.call('ZREM', key, ARGV[3])
  redis.call('HDEL', KEYS[2], ARGV[3])
end
return {}
