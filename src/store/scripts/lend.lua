-- Lends of the partitions KEYS, which are all of one slot. ARGV: the time in microseconds ("" for this server's own), then eleven
-- for each key: kind, figure, size, scale, want, least, back, slice, known, owed, held. Numbers are integers below 2^53.
-- Answers three for each key: lent, lacks, and the slice or (of a window that lent nothing) minus the microseconds to wait.
--
-- "bucket": `figure` is the emission interval, `size` the depth, both and `back`, `known` and `owed` in units of which `scale` make a
--   microsecond. Kept: what the bucket lacks, when that was, and the figures it was counted with.
-- "window": `figure` is the quota, `size` a slice's microseconds. Kept: a count for each slice.
-- "slots": `figure` is the number of slots, `size` the milliseconds that they stay lent, `slice` tells one word of a gateway from
--   a later one, `scale` is the gateway's name. Kept: for each gateway how many it holds, until when, and its last word.
local now = tonumber(ARGV[1])
-- A time that is given is a test's, which may stand still for longer than keys would be kept.
local expires = not now
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local function lend(free, want, least)
  local lent = math.max(0, math.min(free, want))
  if lent < least then return 0 end
  return lent
end

local function number(text)
  return string.format('%.0f', text)
end

local function keep_for(key, ms)
  if expires then redis.call('PEXPIRE', key, number(math.ceil(ms))) end
end

local function bucket(key, a)
  local emission, depth, scale = a[2], a[3], a[4]
  local kept = redis.call('HMGET', key, 'l', 't', 'e', 's')
  local lacks = math.min(a[9], depth)
  if kept[1] then
    local old_emission, old_scale = tonumber(kept[3]), tonumber(kept[4])
    lacks = math.max(0, tonumber(kept[1]) - math.max(0, now - kept[2]) * old_scale)
    if old_emission ~= emission or old_scale ~= scale then
      lacks = math.ceil(lacks / old_emission * emission)
    end
    lacks = math.min(lacks, depth)
  end
  lacks = math.max(0, math.min(lacks + a[10], depth) - a[7])
  local lent = lend(math.floor((depth - lacks) / emission), a[5], a[6])
  lacks = lacks + lent * emission
  if lacks > 0 then
    redis.call('HSET', key, 'l', number(lacks), 't', number(now), 'e', number(emission), 's', number(scale))
    keep_for(key, lacks / scale / 1000 + 1000)
  elseif kept[1] then
    redis.call('DEL', key)
  end
  return lent, lacks, 0
end

local SLICES = 64

local function window(key, a)
  local quota, slice_us, back = a[2], a[3], a[7]
  local slice = math.floor(now / slice_us)
  local kept, counts, order, total = redis.call('HGETALL', key), {}, {}, 0
  for i = 1, #kept, 2 do
    local from, count = tonumber(kept[i]), tonumber(kept[i + 1])
    if from + SLICES <= slice or from > slice + SLICES then
      redis.call('HDEL', key, kept[i])
    else
      counts[from], total = count, total + count
      order[#order + 1] = from
    end
  end
  local more = a[10]
  if #kept == 0 then more = more + a[9] end
  more = math.min(more, math.max(0, quota - total))
  if more > 0 then
    if not counts[slice] then order[#order + 1] = slice end
    counts[slice], total = (counts[slice] or 0) + more, total + more
    redis.call('HSET', key, number(slice), number(counts[slice]))
  end
  table.sort(order)
  for _, from in ipairs(order) do
    if from >= a[8] and back > 0 then
      local less = math.min(back, counts[from])
      counts[from], total, back = counts[from] - less, total - less, back - less
      redis.call('HSET', key, number(from), number(counts[from]))
    end
  end
  local want, least = a[5], a[6]
  local lent = lend(quota - total, want, least)
  if lent > 0 then
    counts[slice], total = (counts[slice] or 0) + lent, total + lent
    redis.call('HSET', key, number(slice), number(counts[slice]))
  end
  local newest = math.max(slice, order[#order] or 0)
  keep_for(key, ((newest + SLICES) * slice_us - now) / 1000)
  if lent > 0 or want == 0 or least > quota then return lent, total, slice end
  local left = total
  for _, from in ipairs(order) do
    left = left - counts[from]
    if left + math.max(least, 1) <= quota then
      return 0, total, now - (from + SLICES) * slice_us
    end
  end
  return 0, total, slice
end

local function slots(key, a, gateway)
  local kept, others, latest = redis.call('HGETALL', key), 0, now
  for i = 1, #kept, 2 do
    local held, till, word = string.match(kept[i + 1], '^(%d+) (%d+) (%d+)$')
    held, till, word = tonumber(held), tonumber(till), tonumber(word)
    if kept[i] == gateway then
      -- A word that was overtaken by a later one changes nothing.
      if word >= a[8] then return 0, held, 0 end
    elseif till <= now then
      redis.call('HDEL', key, kept[i])
    else
      others, latest = others + held, math.max(latest, till)
    end
  end
  local held, till = a[11], now + a[3] * 1000
  local lent = lend(a[2] - others - held, a[5], a[6])
  held = held + lent
  if held > 0 then
    redis.call('HSET', key, gateway, number(held) .. ' ' .. number(till) .. ' ' .. number(a[8]))
    keep_for(key, (math.max(latest, till) - now) / 1000)
  else
    redis.call('HDEL', key, gateway)
  end
  return lent, others + held, 0
end

local answers = {}
for i, key in ipairs(KEYS) do
  local from, a = 1 + (i - 1) * 11, {}
  for j = 1, 11 do a[j] = tonumber(ARGV[from + j]) end
  local kind, lent, lacks, rest = ARGV[from + 1], 0, 0, 0
  if kind == 'bucket' then
    lent, lacks, rest = bucket(key, a)
  elseif kind == 'window' then
    lent, lacks, rest = window(key, a)
  else
    lent, lacks, rest = slots(key, a, ARGV[from + 4])
  end
  answers[#answers + 1], answers[#answers + 2], answers[#answers + 3] = lent, lacks, rest
end
return answers
