#!lua name=blissdata_pins_1
-- Pins: what consumers ask the memory tracker not to forget. Loaded by the backends; the number in the
-- names grows with every change of behaviour, so that programs of different age can share a server.
-- A pin is a hash: scan, name, holder, token, lasting, default (where streams without a field of their
-- own are held: 0, or - for not at all), `s:<stream>` a position, `l:<stream>` ranges that were
-- forgotten all the same. All of it works on a full server.

local DELETION_GRACE_MS = 10000
local CHUNK = 1000  -- a command in here takes no more arguments than fit on Lua's stack

local function alive(scan)
  local ttl = redis.call('PTTL', scan)
  if ttl == -2 or (ttl >= 0 and ttl <= DELETION_GRACE_MS) then return nil end
  return ttl
end

local function integer(number) return string.format('%.0f', number) end

local function position(pin, stream)
  return tonumber(redis.call('HGET', pin, 's:' .. stream) or redis.call('HGET', pin, 'default'))
end

-- KEYS: registry, pin, scan, then whatever expires with the scan
-- ARGS: token, name, holder, lasting, time to live [ms], default, how many positions count only where
-- there is none yet, then a stream and a position each
-- gives OK and the pin's fields, or VANISHED
local function take(keys, args)
  local registry, pin, scan = keys[1], keys[2], keys[3]
  local ttl = alive(scan)
  if ttl == nil then return {'VANISHED'} end
  if ttl >= 0 then
    for i = 3, #keys do redis.call('PERSIST', keys[i]) end
  end
  redis.call('HSET', pin, 'scan', scan, 'token', args[1], 'name', args[2], 'holder', args[3],
             'lasting', args[4], 'default', args[6])
  local cautious = tonumber(args[7])
  for i = 8, #args, 2 do
    local how = i < 8 + 2 * cautious and 'HSETNX' or 'HSET'
    redis.call(how, pin, 's:' .. args[i], args[i + 1])
  end
  redis.call('PEXPIRE', pin, args[5])
  redis.call('SADD', registry, pin)
  return {'OK', redis.call('HGETALL', pin)}
end

-- KEYS: pin, scan   ARGS: token, time to live [ms], then a stream and a position each
-- gives OK and what was forgotten, a stream and its ranges each; or GONE, VANISHED, TAKEN and by whom
local function move(keys, args)
  local pin = keys[1]
  local token = redis.call('HGET', pin, 'token')
  if not token then return {alive(keys[2]) and 'GONE' or 'VANISHED', ''} end
  if token ~= args[1] then return {'TAKEN', redis.call('HGET', pin, 'holder')} end
  if alive(keys[2]) == nil then return {'VANISHED', ''} end
  local default = tonumber(redis.call('HGET', pin, 'default'))
  for from = 3, #args, 2 * CHUNK do
    local fields, moved = {}, {}
    local upto = math.min(from + 2 * CHUNK - 1, #args)
    for i = from, upto, 2 do fields[#fields + 1] = 's:' .. args[i] end
    local before = redis.call('HMGET', pin, unpack(fields))
    for n, field in ipairs(fields) do
      local index = args[from + 2 * n - 1]
      local at = tonumber(before[n] or default)
      if at == nil or tonumber(index) > at then
        moved[#moved + 1] = field
        moved[#moved + 1] = index
      end
    end
    if #moved > 0 then redis.call('HSET', pin, unpack(moved)) end
  end
  redis.call('PEXPIRE', pin, args[2])
  local reply = {'OK'}
  if redis.call('HEXISTS', pin, 'broken') == 1 then
    local fields = redis.call('HGETALL', pin)
    for i = 1, #fields, 2 do
      if string.sub(fields[i], 1, 2) == 'l:' then
        reply[#reply + 1] = string.sub(fields[i], 3)
        reply[#reply + 1] = fields[i + 1]
      end
    end
  end
  return reply
end

-- KEYS: registry, pin   ARGS: token, empty to remove it whoever holds it
local function release(keys, args)
  local token = redis.call('HGET', keys[2], 'token')
  if token and args[1] ~= '' and token ~= args[1] then return {'TAKEN'} end
  redis.call('SREM', keys[1], keys[2])
  return {redis.call('DEL', keys[2]) == 1 and 'OK' or 'GONE'}
end

-- KEYS: pin   ARGS: a stream and its first index that is left, each
-- The pin stands there from now on. A repeat changes nothing.
local function lose(keys, args)
  local pin = keys[1]
  if redis.call('EXISTS', pin) == 0 then return {'GONE'} end
  for i = 1, #args, 2 do
    local stream, upto = args[i], tonumber(args[i + 1])
    local from = position(pin, stream)
    if from ~= nil and from < upto then
      local ranges = redis.call('HGET', pin, 'l:' .. stream) or ''
      local before = string.match(ranges, '^(.*)%-' .. integer(from) .. '$')
      if before then ranges = before .. '-' .. integer(upto)
      else ranges = (ranges == '' and '' or ranges .. ' ') .. integer(from) .. '-' .. integer(upto) end
      redis.call('HSET', pin, 'l:' .. stream, ranges, 's:' .. stream, integer(upto), 'broken', '1')
    end
  end
  return {'OK'}
end

-- KEYS: what a memory tracker says of itself   ARGS: time to live [ms], then fields and values
local function tell(keys, args)
  redis.call('DEL', keys[1])
  redis.call('HSET', keys[1], unpack(args, 2))
  redis.call('PEXPIRE', keys[1], args[1])
  return {'OK'}
end

-- KEYS: stream   gives the id of the newest entry that it ever had, if there is one left or not
local function newest(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return '' end
  local about = redis.call('XINFO', 'STREAM', keys[1])
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then return about[i + 1] end
  end
  return ''
end

local READ, ALWAYS = {'no-writes', 'allow-oom'}, {'allow-oom'}

redis.register_function{function_name='bdp1_take', callback=take, flags=ALWAYS}
redis.register_function{function_name='bdp1_move', callback=move, flags=ALWAYS}
redis.register_function{function_name='bdp1_release', callback=release, flags=ALWAYS}
redis.register_function{function_name='bdp1_lose', callback=lose, flags=ALWAYS}
redis.register_function{function_name='bdp1_newest', callback=newest, flags=READ}
redis.register_function{function_name='bdp1_tell', callback=tell, flags=ALWAYS}
