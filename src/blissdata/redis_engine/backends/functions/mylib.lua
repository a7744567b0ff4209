#!lua name=mylib
-- The function that blissdata 2.x calls to seal a stream; protocol 1 gives its name and what it does.

local SEAL = '18446744073709551615-18446744073709551615'

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return nil
end

-- KEYS: stream   gives its length
local function seal_stream(keys, args)
  local newest = redis.call('XREVRANGE', keys[1], '+', '-', 'COUNT', 1)[1]
  local length = 0
  if newest then
    if newest[1] == SEAL then return redis.error_reply('ERR ' .. keys[1] .. ' is already sealed.') end
    length = tonumber(string.match(newest[1], '^%d+')) + tonumber(field(newest[2], 'len') or 1)
  end
  redis.call('XADD', keys[1], SEAL, 'id', string.format('%.0f', length))
  return length
end

redis.register_function{function_name='seal_stream', callback=seal_stream, flags={'allow-oom'}}
