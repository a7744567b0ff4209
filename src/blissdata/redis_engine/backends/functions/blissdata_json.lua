#!lua name=blissdata_json_1
-- What must happen at one instant to scans that are RedisJSON documents (protocol 1). Keys and entries
-- are those that blissdata 2.x leaves. As in blissdata.lua, the number in the names grows with every
-- change of behaviour.

local DELETION_GRACE_MS = 10000

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

-- KEYS: scans   gives a 1 for each that is there, a 0 for each that is gone or counts as deleted
local function all_alive(keys, args)
  local found = {}
  for i, key in ipairs(keys) do found[i] = alive(key) and '1' or '0' end
  return table.concat(found)
end

-- KEYS: scan, state, history   ARGS: document, history length   gives the id of the state's entry
local function create(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then return last_entry(keys[2])[1] end
  redis.call('JSON.SET', keys[1], '.', args[1])
  redis.call('XADD', keys[3], 'MAXLEN', '~', args[2], '*', 'key', keys[1])
  return redis.call('XADD', keys[2], '*', 'state', '0')
end

-- KEYS: scan, state   ARGS: from, to, document   gives OK, CONFLICT or VANISHED, and id or state
local function advance(keys, args)
  local last = alive(keys[1]) and last_entry(keys[2])
  if not last then return {'VANISHED', ''} end
  local state = field(last[2], 'state') or ''
  if state ~= args[1] then return {'CONFLICT', state} end
  redis.call('JSON.SET', keys[1], '.', args[3])
  return {'OK', redis.call('XADD', keys[2], '*', 'state', args[2])}
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

-- KEYS: protocol key, then what else a prepared server holds   ARGS: a value for each
-- gives OK, or how many keys the server holds
local function initialise(keys, args)
  local size, ours = redis.call('DBSIZE'), redis.call('EXISTS', unpack(keys))
  local version = redis.call('GET', keys[1])
  if size > ours or (version and version ~= args[1]) then return string.format('%.0f', size) end
  for i = #keys, 1, -1 do redis.call('SET', keys[i], args[i]) end
  return 'OK'
end

local ALWAYS = {'allow-oom'}

redis.register_function{function_name='bdj1_alive', callback=all_alive, flags={'no-writes', 'allow-oom'}}
redis.register_function{function_name='bdj1_create', callback=create}
redis.register_function{function_name='bdj1_advance', callback=advance, flags=ALWAYS}
redis.register_function{function_name='bdj1_expire', callback=expire, flags=ALWAYS}
redis.register_function{function_name='bdj1_initialise', callback=initialise}
