-- What the server gives functions. A global is looked for in three tables each time it is used, one after the other,
-- and most are there only while a function is called; so they are kept in locals from the first call on. The other
-- parts are in a function of their own behind this, in which these locals are not counted.
local register_function = redis.register_function

local function given()
  return redis, string, table, math, cjson, cmsgpack, ipairs, pairs, next, unpack, tonumber, tostring, type, pcall,
    error
end

local redis, string, table, math, cjson, cmsgpack = {}
local ipairs, pairs, next, unpack, tonumber, tostring, type, pcall, error

local function with_given(callback)
  return function(keys, args)
    if not string then
      collectgarbage('setpause', 400) -- when there is four times as much as after the last time, instead of twice
      redis, string, table, math, cjson, cmsgpack, ipairs, pairs, next, unpack, tonumber, tostring, type, pcall, error =
        given()
    end
    return callback(keys, args)
  end
end

-- As the server's own, of what is called by name and callback or by a table.
function redis.register_function(what, callback)
  if callback then
    register_function(what, with_given(callback))
  else
    what.callback = with_given(what.callback)
    register_function(what)
  end
end
