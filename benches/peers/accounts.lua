-- A key for each request, one of those in the file that the first argument names.
local requests, count, state = {}, 0, 88172645
init = function(arguments)
  for secret in io.lines(arguments[1]) do
    count = count + 1
    requests[count] = secret
  end
end
request = function()
  -- Lehmer's generator: the same sequence for every contender.
  state = (state * 48271) % 2147483647
  wrk.headers["Authorization"] = "Bearer " .. requests[state % count + 1]
  return wrk.format(nil, nil)
end
