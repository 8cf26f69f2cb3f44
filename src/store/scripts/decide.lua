-- Decides about one request, all or nothing: whether every partition that it asks about has room, in the order of its limits.
--
-- KEYS: one for each question.
-- ARGV: the time in microseconds, or "" for this server's own; 1 to take what there is room for; then for each question
--   kind       "g" bucket, "w" sliding window, "s" slots
--   flags      1: a refusal ends the request; 2: the second of two that pay for one limit
--   cost       tokens
--   interval   bucket: microseconds a token; window: of a slice; slots: after which a silent holder's comes back
--   most       bucket: microseconds it takes to fill; window: tokens; slots: how many
--   known      what the gateway knows of it: microseconds lacking, or tokens counted. Believed where the server knows nothing
--   owed       bucket: whether to believe it in any case; window: tokens to add; slots: the name of the slot
-- Answers the time, whether anything was taken, and for each question that was looked at: 1 admitted or 0 refused, what remains,
-- when to come again (sixteenths of a microsecond from now; -1 never or unknown), and what the bucket lacks (the same) or the
-- slice that the window counted in, and the bucket's count of disturbances.
--
-- Nothing is removed before something is written: a server that is out of memory then refuses the script as a whole.
--
-- Times are whole sixteenths of a microsecond since 2020: exact in a double. State: "tat interval most disturbances" of a bucket (see tend.lua), a hash of slices
-- of a window (and "s", a slice's length), a sorted set of slots by the time at which each comes back.

local now, tested = tonumber(ARGV[1]), ARGV[1] ~= ''
if not tested then
  local time = redis.call('TIME')
  now = (time[1] - 1577836800) * 1000000 + time[2]
end
local SLICES = 64
local state, writes = {}, {}

local function expire_ms(us)
  local ms = math.min(math.ceil(us / 1000) + 1000, 4e12)
  if tested then ms = math.max(ms, 600000) end
  return string.format('%.0f', ms)
end

local function exact(number)
  return string.format('%.17g', number)
end

local function sixteenth_up(us)
  return math.ceil(us * 16) / 16
end

-- A bucket that is full is not kept.
local function keep(key, tat, interval, most, disturbances)
  if tat > now then
    redis.call('SET', key, exact(tat) .. ' ' .. exact(interval) .. ' ' .. exact(most) .. ' ' .. disturbances, 'PX', expire_ms(tat - now))
  end
end

local function bucket(key, cost, interval, most, known, owed)
  local found = state[key] or {}
  local tat = found.tat
  if not tat then
    local kept = redis.call('GET', key)
    -- Begins anywhere: what was taken before the state was forgotten finds it disturbed.
    found.disturbances = math.floor(now) % 65536
    if kept then
      local at, old, old_most, disturbances = kept:match('^(%S+) (%S+) (%S+) (%S+)$')
      tat, old, found.disturbances = tonumber(at), tonumber(old), tonumber(disturbances)
      -- After a change of figures as many tokens lack as before, at most all.
      if (old ~= interval or tonumber(old_most) ~= most) and tat > now then
        found.disturbances = (found.disturbances + 1) % 65536
        tat = now + math.min(sixteenth_up((tat - now) * interval / old), most)
        -- Whatever comes of this request: the next one would convert it at another time.
        keep(key, tat, interval, most, found.disturbances)
      end
    end
    if not kept or owed ~= '0' then
      tat = math.max(tat or 0, now + math.min(known, most))
      -- What was told now will not be told again.
      keep(key, tat, interval, most, found.disturbances)
    end
    found.tat = tat
    state[key] = found
  end
  local lacking = math.max(tat - now, 0)
  local increment = cost * interval
  if increment > most then
    return false, 0, -1, lacking
  end
  local after = math.max(tat, now) + increment
  if after - now > most then
    return false, 0, (after - most - now) * 16, lacking
  end
  found.tat = after
  local function write() keep(key, found.tat, interval, most, found.disturbances) end
  local function undo() found.tat = tat end
  return true, math.floor((most - (after - now)) / interval), 0, after - now, write, undo
end

local function keep_ring(key, found, interval)
  local fields = { 's', exact(interval) }
  for number, count in pairs(found.counts) do
    fields[#fields + 1] = string.format('%.0f', number)
    fields[#fields + 1] = string.format('%.0f', count)
  end
  -- Written first: a server that is out of memory refuses the script as a whole. Then slices that count no more are removed.
  redis.call('HSET', key, unpack(fields))
  for _, gone in ipairs(found.gone) do redis.call('HDEL', key, gone) end
  redis.call('PEXPIRE', key, expire_ms(interval * SLICES))
end

local function ring(key, interval, slice, known, owed)
  local found = { counts = {}, total = 0, newest = slice, gone = {} }
  local kept = redis.call('HGETALL', key)
  local length = interval
  for i = 1, #kept, 2 do
    if kept[i] == 's' then length = tonumber(kept[i + 1]) end
  end
  found.changed = length ~= interval
  for i = 1, #kept, 2 do
    local number, count = tonumber(kept[i]), tonumber(kept[i + 1])
    if number then
      if found.changed then number = math.min(math.floor(((number + 1) * length - 0.0625) / interval), slice) end
      found.counts[number] = (found.counts[number] or 0) + count
      found.newest = math.max(found.newest, number)
    end
  end
  local more = tonumber(owed) + (#kept == 0 and known or 0)
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

local function window(key, cost, interval, most, known, owed)
  local found = state[key]
  if not found then
    found = ring(key, interval, math.floor(now / interval), known, owed)
    state[key] = found
  end
  local slice = found.newest
  if cost > most then
    return false, 0, -1, slice
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
    return false, 0, math.max((last + SLICES) * interval - now, 0) * 16, slice
  end
  found.counts[slice] = (found.counts[slice] or 0) + cost
  found.total = found.total + cost
  local function write() keep_ring(key, found, interval) end
  local function undo()
    found.counts[slice] = found.counts[slice] - cost
    found.total = found.total - cost
  end
  return true, most - found.total, 0, slice, write, undo
end

local function slots(key, ttl, most, name)
  local held = state[key] or redis.call('ZCOUNT', key, '(' .. exact(now), '+inf')
  if held >= most then
    return false, 0, -1, 0
  end
  state[key] = held + 1
  local function write()
    redis.call('ZADD', key, exact(now + ttl), name)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', exact(now))
    redis.call('PEXPIRE', key, expire_ms(ttl))
  end
  local function undo() state[key] = state[key] - 1 end
  return true, most - held - 1, 0, 0, write, undo
end

local answer, refused = { math.floor(now), 0 }, false
for i = 1, #KEYS do
  local at = 3 + (i - 1) * 7
  local kind, flags, cost = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local interval, most, known, owed = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), ARGV[at + 6]
  local ok, remaining, wait, last, write, undo
  if flags >= 2 and not writes[i - 1] then
    -- The first had no room and is a shadow: the second is not asked.
    ok, remaining, wait, last = false, 0, -1, 0
  elseif kind == 'g' then
    ok, remaining, wait, last, write, undo = bucket(KEYS[i], cost, interval, most, known, owed)
    last = last * 16
  elseif kind == 'w' then
    ok, remaining, wait, last, write, undo = window(KEYS[i], cost, interval, most, known, owed)
  else
    ok, remaining, wait, last, write, undo = slots(KEYS[i], interval, most, owed)
  end
  answer[#answer + 1] = ok and 1 or 0
  answer[#answer + 1] = remaining
  answer[#answer + 1] = wait
  answer[#answer + 1] = last
  answer[#answer + 1] = kind == 'g' and state[KEYS[i]] and state[KEYS[i]].disturbances or 0
  writes[i] = ok and { write, undo } or false
  if not ok then
    -- The first of two that pay gives nothing either.
    if flags >= 2 and writes[i - 1] then
      writes[i - 1][2]()
      writes[i - 1] = false
    end
    if flags % 2 == 1 then
      refused = true
      break
    end
  end
end
if ARGV[2] == '1' and not refused then
  answer[2] = 1
  for _, one in ipairs(writes) do
    if one then one[1]() end
  end
end
return answer
