-- Decides about one request, all or nothing: whether every partition that it asks about has room, in the order of its limits.
--
-- KEYS: one for each question, no two the same. ARGV[1], packed: the time in microseconds (a double; negative for this server's own)
-- and 1 to take what there is room for (a byte), then for each question
--   kind       a byte: 1 bucket, 2 sliding window, 3 slots
--   flags      a byte: 1 a refusal ends the request; 2 the second of two that pay for one limit
--   cost       tokens, 4 bytes; all that follows are doubles
--   interval   bucket: microseconds a token; window: of a slice; slots: after which a silent holder's comes back
--   most       bucket: microseconds it takes to fill; window: tokens; slots: how many
--   known      what the gateway knows of it: microseconds lacking, or tokens counted. Believed where the server knows nothing
--   owed       bucket: above 0 to believe it in any case; window: tokens to add
-- The rest of ARGV: the names of the slots, one for each question of kind 3.
-- Answers, packed: the time (a double) and whether anything was taken (a byte), then for each question that was looked at: 1 admitted or
-- 0 refused (a byte); what remains, when to come again (sixteenths of a microsecond from now; -1 never or unknown), and what the bucket
-- lacks (the same) or the slice that the window counted in (doubles); the bucket's count of disturbances (2 bytes).
--
-- Nothing is removed before something is written: a server that is out of memory then refuses the script as a whole.
--
-- Times are whole sixteenths of a microsecond since 2020: exact in a double. State: of a bucket, packed, the doubles tat, when it may be forgotten, interval, most,
-- and disturbances (see tend.lua); a hash of slices of a window (and "s", a slice's length); a sorted set of slots by the time at which
-- each comes back.
--
-- Every request waits for this script, so it makes few tables, few closures and few calls (docs/decisions/0105).

local BUCKET, WINDOW, SLOTS = 1, 2, 3
local SLICES = 64
-- How much longer than it must a bucket is kept: at least, and when its expiry is set. To set one doubles the cost of a write.
local SPARE, MORE = 1000000, 5000000

local pack, unpacked, call, floor = struct.pack, struct.unpack, redis.call, math.floor
local KEYS, words = KEYS, ARGV[1]
local now, take, at = unpacked('<dB', words)
local tested = now >= 0
if not tested then
  local time = call('TIME')
  now = (time[1] - 1577836800) * 1000000 + time[2]
end
-- By question, once there is room: what to write of it, and of a bucket after how many milliseconds it goes, where that is to be set.
-- Of this length from the beginning, for tables that grow are slow.
local writes, expiries = { false, false, false, false, false }, { false, false, false, false, false }

local function expire_ms(us)
  local ms = math.min(math.ceil(us / 1000), 4e12)
  return tested and math.max(ms, 600000) or ms
end

local function keep(key, kept, expiry)
  if expiry then
    call('SET', key, kept, 'PX', expiry)
  else
    call('SET', key, kept, 'KEEPTTL')
  end
end

local function bucket(i, key, cost, interval, most, known, owed)
  local kept = call('GET', key)
  local tat, expires, disturbances, changed = 0, 0
  if kept then
    local old, old_most
    tat, expires, old, old_most, disturbances = unpacked('<ddddH', kept)
    -- After a change of figures as many tokens lack as before, at most all.
    if (old ~= interval or old_most ~= most) and tat > now then
      disturbances = (disturbances + 1) % 65536
      tat = now + math.min(math.ceil((tat - now) * interval / old * 16) / 16, most)
      changed = true
    end
  else
    -- Begins anywhere: what was taken before the state was forgotten finds it disturbed.
    disturbances = floor(now) % 65536
  end
  if known > 0 and (owed > 0 or not kept) then
    tat = math.max(tat, now + math.min(known, most))
    changed = true
  end
  if changed and tat > now then
    -- Whatever comes of this request: what was told now is not told again, and the next one would convert it at another time.
    expires = tat + MORE
    keep(key, pack('<ddddH', tat, expires, interval, most, disturbances), expire_ms(expires - now))
  end
  local lacking = tat > now and tat - now or 0
  local increment = cost * interval
  local after = lacking + increment
  if after > most then
    return 0, 0, increment > most and -1 or (after - most) * 16, lacking * 16, disturbances
  end
  -- A bucket that is full is not kept.
  writes[i] = true
  if after > 0 then
    tat = now + after
    if tat + SPARE > expires then
      expires = tat + MORE
      expiries[i] = expire_ms(expires - now)
    end
    writes[i] = pack('<ddddH', tat, expires, interval, most, disturbances)
  end
  return 1, floor((most - after) / interval), 0, after * 16, disturbances
end

local function exact(number)
  return string.format('%.17g', number)
end

local function keep_ring(key, found, interval)
  local fields = { 's', exact(interval) }
  for number, count in pairs(found.counts) do
    fields[#fields + 1] = string.format('%.0f', number)
    fields[#fields + 1] = string.format('%.0f', count)
  end
  -- Written first: a server that is out of memory refuses the script as a whole. Then slices that count no more are removed.
  call('HSET', key, unpack(fields))
  for _, gone in ipairs(found.gone) do call('HDEL', key, gone) end
  call('PEXPIRE', key, expire_ms(interval * SLICES + SPARE))
end

local function ring(key, interval, slice, known, owed)
  local found = { counts = {}, total = 0, newest = slice, gone = {} }
  local kept = call('HGETALL', key)
  local length = interval
  for i = 1, #kept, 2 do
    if kept[i] == 's' then length = tonumber(kept[i + 1]) end
  end
  found.changed = length ~= interval
  for i = 1, #kept, 2 do
    local number, count = tonumber(kept[i]), tonumber(kept[i + 1])
    if number then
      if found.changed then number = math.min(floor(((number + 1) * length - 0.0625) / interval), slice) end
      found.counts[number] = (found.counts[number] or 0) + count
      found.newest = math.max(found.newest, number)
    end
  end
  local more = owed + (#kept == 0 and known or 0)
  if more > 0 then found.counts[found.newest] = (found.counts[found.newest] or 0) + more end
  for number, count in pairs(found.counts) do
    if number + SLICES > found.newest then
      found.total = found.total + count
    else
      found.counts[number] = nil
    end
  end
  for i = 1, #kept, 2 do
    local number = tonumber(kept[i])
    if number and not found.counts[number] then found.gone[#found.gone + 1] = kept[i] end
  end
  if more > 0 then keep_ring(key, found, interval) end
  return found
end

local function window(i, key, cost, interval, most, known, owed)
  local found = ring(key, interval, floor(now / interval), known, owed)
  local slice = found.newest
  if cost > most then
    return 0, 0, -1, slice
  end
  local over = found.total + cost - most
  if over > 0 then
    local freed, last = 0, slice
    for number = slice - SLICES + 1, slice do
      freed = freed + (found.counts[number] or 0)
      if freed >= over then
        last = number
        break
      end
    end
    return 0, 0, math.max((last + SLICES) * interval - now, 0) * 16, slice
  end
  writes[i] = function()
    found.counts[slice] = (found.counts[slice] or 0) + cost
    keep_ring(key, found, interval)
  end
  return 1, most - found.total - cost, 0, slice
end

local function slots(i, key, ttl, most, name)
  local held = call('ZCOUNT', key, '(' .. exact(now), '+inf')
  if held >= most then
    return 0, 0, -1, 0
  end
  writes[i] = function()
    call('ZADD', key, exact(now + ttl), name)
    call('ZREMRANGEBYSCORE', key, '-inf', exact(now))
    call('PEXPIRE', key, expire_ms(ttl + SPARE))
  end
  return 1, most - held - 1, 0, 0
end

local answer, refused, named = '', false, 1
for i = 1, #KEYS do
  local key, kind, flags, cost, interval, most, known, owed = KEYS[i]
  kind, flags, cost, interval, most, known, owed, at = unpacked('<BBI4dddd', words, at)
  if kind == SLOTS then named = named + 1 end
  -- Where the first of two had no room and is a shadow, the second is not asked.
  local ok, remaining, wait, last, disturbances = 0, 0, -1, 0, 0
  if flags < 2 or writes[i - 1] then
    if kind == BUCKET then
      ok, remaining, wait, last, disturbances = bucket(i, key, cost, interval, most, known, owed)
    elseif kind == WINDOW then
      ok, remaining, wait, last = window(i, key, cost, interval, most, known, owed)
    else
      ok, remaining, wait, last = slots(i, key, interval, most, ARGV[named])
    end
  end
  answer = answer .. pack('<BdddH', ok, remaining, wait, last, disturbances or 0)
  if ok == 0 then
    -- The first of two that pay gives nothing either.
    if flags >= 2 then writes[i - 1] = false end
    if flags % 2 == 1 then
      refused = true
      break
    end
  end
end
local taken = take == 1 and not refused
if taken then
  for i = 1, #KEYS do
    local write = writes[i]
    if type(write) == 'string' then
      keep(KEYS[i], write, expiries[i])
    elseif type(write) == 'function' then
      write()
    end
  end
end
return pack('<dB', now, taken and 1 or 0) .. answer
