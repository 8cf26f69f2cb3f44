//! What a change is inside Redis.

/// `KEYS`: entries, log, names. `ARGV`: field, name, what is expected, the expected text, what to do, the new text, capacity, the
/// log's length, nonce. Answers a verdict and, when it is "done", the log's new line.
pub(super) const CHANGE: &str = r"
local entries, log, names = KEYS[1], KEYS[2], KEYS[3]
local field, name, expected, old, action, text = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local present = redis.call('HGET', entries, field)
if expected == 'absent' and present then return {'conflict', ''} end
if expected == 'exactly' and present ~= old then return {'conflict', ''} end
if action == 'put' then
  local holder = redis.call('HGET', names, name)
  if holder and holder ~= field then return {'name', ''} end
  if not present and redis.call('HLEN', entries) >= tonumber(ARGV[7]) then return {'full', ''} end
  redis.call('HSET', entries, field, text)
  redis.call('HSET', names, name, field)
else
  if not present then return {'conflict', ''} end
  redis.call('HDEL', entries, field)
  redis.call('HDEL', names, name)
end
local newest = redis.call('LINDEX', log, 0)
local number = 1
if newest then number = tonumber(string.match(newest, '^(%d+):')) + 1 end
local line = string.format('%.0f', number) .. ':' .. ARGV[9] .. ':' .. field
redis.call('LPUSH', log, line)
redis.call('LTRIM', log, 0, tonumber(ARGV[8]) - 1)
return {'done', line}
";
