#!lua name=blissdata_json_3
-- What must happen at one instant to scans that are RedisJSON documents (protocol 1). Keys and entries
-- are those that blissdata 2.x leaves, and the pulses. As in blissdata.lua, the number in the names grows
-- with every change of behaviour.

local DELETION_GRACE_MS = 10000
local CLOSED = '4'
local MOST_KNOWN = 64  -- so many keys that expire are looked at; if there are more, each scan is

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return nil
end

local function last_entry(key) return redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1] end

local function alive(scan)
  local ttl = redis.call('PTTL', scan)
  return ttl == -1 or ttl > DELETION_GRACE_MS
end

-- ---------------------------------------------------------------- one scan

local function forget_pulse(pulses, pulse)
  redis.call('DEL', pulse)
  redis.call('SREM', pulses, pulse)
end

-- A publisher that died leaves a name without a pulse in the set.
local function begin_pulse(pulses, pulse, ttl)
  redis.call('SET', pulse, '', 'PX', ttl)
  redis.call('SADD', pulses, pulse)
  if redis.call('SCARD', pulses) <= MOST_KNOWN then return end
  for _, other in ipairs(redis.call('SRANDMEMBER', pulses, MOST_KNOWN)) do
    if redis.call('EXISTS', other) == 0 then redis.call('SREM', pulses, other) end
  end
end

-- KEYS: scan, state, history, pulse, pulses   ARGS: document, history length, time to live of the pulse
-- gives the id of the state's entry
local function create(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then return last_entry(keys[2])[1] end
  redis.call('JSON.SET', keys[1], '.', args[1])
  redis.call('XADD', keys[3], 'MAXLEN', '~', args[2], '*', 'key', keys[1])
  begin_pulse(keys[5], keys[4], args[3])
  return redis.call('XADD', keys[2], '*', 'state', '0')
end

-- KEYS: scan, state, pulse, pulses   ARGS: from, to, document (empty: as it is)
-- gives OK, CONFLICT or VANISHED, and id or state
local function advance(keys, args)
  local last = alive(keys[1]) and last_entry(keys[2])
  if not last then return {'VANISHED', ''} end
  local state = field(last[2], 'state') or ''
  if state ~= args[1] then return {'CONFLICT', state} end
  if args[3] ~= '' then redis.call('JSON.SET', keys[1], '.', args[3]) end
  if args[2] == CLOSED then forget_pulse(keys[4], keys[3]) end
  return {'OK', redis.call('XADD', keys[2], '*', 'state', args[2])}
end

-- KEYS: scan [, state]   ARGS: what the keys of streams begin with
-- gives document, state id, state; or nothing
local function load(keys, args)
  if not alive(keys[1]) then return {} end
  local text, state = redis.call('JSON.GET', keys[1], '.'), keys[2]
  if not text then return {} end
  if not state then
    local pk = redis.pcall('JSON.GET', keys[1], 'state_stream.pk')
    pk = type(pk) == 'string' and string.match(pk, '^"([^"\\]+)"$')
    state = pk and args[1] .. pk
  end
  local last = state and last_entry(state)
  if not last then return {text} end
  return {text, last[1], field(last[2], 'state') or ''}
end

-- KEYS: scan   ARGS: seconds, what the keys of streams begin with
local function expire(keys, args)
  local found = {keys[1]}
  for _, path in ipairs({'$.state_stream.pk', '$.data_streams.*.pk'}) do
    local text = redis.pcall('JSON.GET', keys[1], path)  -- an error if it is no document: then it alone
    for _, pk in ipairs(type(text) == 'string' and cjson.decode(text) or {}) do
      if type(pk) == 'string' then found[#found + 1] = args[2] .. pk end
    end
  end
  for _, key in ipairs(found) do redis.call('EXPIRE', key, args[1], 'LT') end
  return 'OK'
end

-- ---------------------------------------------------------------- many scans

-- KEYS: a key that expires, then sets of the names of others   ARGS: number of the database
-- gives 1 if no scan can be about to expire: because no other key has a time to live
local function steady(keys, args)
  local text = redis.pcall('INFO', 'keyspace')
  if type(text) ~= 'string' then return 0 end
  local expiring = tonumber(string.match(text, 'db' .. args[1] .. ':keys=%d+,expires=(%d+)') or 0)
  if expiring == 0 then return 1 end
  if expiring > MOST_KNOWN then return 0 end
  if redis.call('PTTL', keys[1]) >= 0 then expiring = expiring - 1 end
  for i = 2, #keys do
    if redis.call('SCARD', keys[i]) > MOST_KNOWN then return 0 end
    for _, key in ipairs(redis.call('SMEMBERS', keys[i])) do
      if redis.call('PTTL', key) >= 0 then expiring = expiring - 1 end
    end
  end
  return expiring == 0 and 1 or 0
end

-- KEYS: protocol key, then what else a prepared server holds   ARGS: a value for each
-- gives OK, or how many keys the server holds
local function initialise(keys, args)
  local size, ours = redis.call('DBSIZE'), redis.call('EXISTS', unpack(keys))
  local version = redis.call('GET', keys[1])
  if size > ours or (version and version ~= args[1]) then return string.format('%.0f', size) end
  for i = #keys, 1, -1 do redis.call('SET', keys[i], args[i]) end
  return 'OK'
end

local READ, ALWAYS = {'no-writes', 'allow-oom'}, {'allow-oom'}

redis.register_function{function_name='bdj3_create', callback=create}
redis.register_function{function_name='bdj3_advance', callback=advance, flags=ALWAYS}
redis.register_function{function_name='bdj3_load', callback=load, flags=READ}
redis.register_function{function_name='bdj3_expire', callback=expire, flags=ALWAYS}
redis.register_function{function_name='bdj3_steady', callback=steady, flags=READ}
redis.register_function{function_name='bdj3_initialise', callback=initialise}
