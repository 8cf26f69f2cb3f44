-- A form of as many bytes as the first argument says.
init = function(arguments)
  local field = "amount=1099&currency=usd&source=tok_visa&description="
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
  wrk.body = field .. string.rep("x", tonumber(arguments[1]) - #field)
end
