#!lua name=blissdata_plain_3
-- What must happen at one instant to the catalogue of the plain layout. As in blissdata.lua, the number in
-- the names grows with every change of behaviour.

local DELETION_GRACE_MS = 10000
local FORGOTTEN_MS = 60000
local CLOSED = '4'

local function integer(number) return string.format('%.0f', number) end

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

local function padded(timetag)
  local ms, n = string.match(timetag, '^(%d+)-(%d+)$')
  return string.format('%016.0f-%010.0f', tonumber(ms), tonumber(n))
end

local function unpadded(text)
  local ms, n = string.match(text, '^(%d+)-(%d+)')
  return integer(tonumber(ms)) .. '-' .. integer(tonumber(n))
end

-- ---------------------------------------------------------------- one scan

-- KEYS: scan, state, history, created, states, pulse, then one sorted set per field
-- ARGS: document, pk, history length, time to live of the pulse, then score and member for each field
local function create(keys, args)
  local scan, state, pk = keys[1], keys[2], args[2]
  if redis.call('EXISTS', scan) == 1 then return last_entry(state)[1] end
  local timetag = redis.call('XADD', keys[3], 'MAXLEN', '~', args[3], '*', 'key', scan)
  redis.call('SET', scan, args[1])
  redis.call('ZADD', keys[4], 0, padded(timetag) .. ':' .. pk)
  redis.call('ZADD', keys[5], 0, pk)
  redis.call('SET', keys[6], '', 'PX', args[4])
  for i = 7, #keys do redis.call('ZADD', keys[i], args[2 * i - 9], args[2 * i - 8]) end
  return redis.call('XADD', state, '*', 'state', '0')
end

-- KEYS: scan, state, states, pulse   ARGS: from, to, document (empty: as it is), token, pk
-- The token lets a repeat after a lost reply see that it was done already.
local function advance(keys, args)
  local last = alive(keys[1]) and last_entry(keys[2])
  if not last then return {'VANISHED', ''} end
  local state = field(last[2], 'state')
  if state == args[2] and field(last[2], 'token') == args[4] then return {'OK', last[1]} end
  if state ~= args[1] then return {'CONFLICT', state} end
  if args[3] ~= '' then redis.call('SET', keys[1], args[3], 'KEEPTTL') end
  redis.call('ZADD', keys[3], args[2], args[5])
  if args[2] == CLOSED then redis.call('DEL', keys[4]) end
  return {'OK', redis.call('XADD', keys[2], '*', 'state', args[2], 'token', args[4])}
end

-- KEYS: scan, state   gives document, state id, state; or nothing
local function load(keys, args)
  if not alive(keys[1]) then return {} end
  local last = last_entry(keys[2])
  if not last then return {redis.call('GET', keys[1])} end
  return {redis.call('GET', keys[1]), last[1], field(last[2], 'state')}
end

-- KEYS: scan, state, members, expiring, then sorted sets of the index that shall list it no more
-- ARGS: seconds, pk, then its member in each of the sets
local function expire(keys, args)
  local seconds = args[1]
  for _, stream in ipairs(redis.call('SMEMBERS', keys[3])) do
    redis.call('EXPIRE', stream, seconds, 'LT')
  end
  for i = 1, 3 do redis.call('EXPIRE', keys[i], seconds, 'LT') end
  for i = 5, #keys do redis.call('ZREM', keys[i], args[i - 2]) end
  local ttl = redis.call('PTTL', keys[1])
  if #keys > 4 then
    redis.call('ZREM', keys[4], args[2])
  elseif ttl >= 0 then  -- the index lists it until it is swept
    local now = tonumber(redis.call('TIME')[1]) * 1000
    redis.call('ZADD', keys[4], integer(now + ttl), args[2])
    redis.call('ZREMRANGEBYSCORE', keys[4], '-inf', integer(now - FORGOTTEN_MS))  -- gone long since
  end
  return 'OK'
end

-- ---------------------------------------------------------------- many scans

local CHUNK = 4000  -- a command in here takes no more arguments than fit on Lua's stack
local PK_LENGTH = 26
local LOOKED_AT_ONE_BY_ONE = 4  -- of more scans, two commands tell at once

local function pk_of(member) return string.sub(member, -PK_LENGTH) end

-- The scans that count as deleted, or soon may, while they are there: of those that were told to expire.
local function dying(expiring)
  local now = tonumber(redis.call('TIME')[1]) * 1000
  local soon = integer(now + DELETION_GRACE_MS + 1000)
  return redis.call('ZRANGE', expiring, integer(now), soon, 'BYSCORE')
end

-- KEYS: states, then scans   ARGS: beginning of the state streams' keys, then the scans' pks
-- gives a state each, -1 for what is gone
local function states(keys, args)
  local found, base = {}, args[1]
  for from = 2, #args, CHUNK do
    local upto = math.min(from + CHUNK - 1, #args)
    local known = redis.call('ZMSCORE', keys[1], unpack(args, from, upto))
    for i = from, upto do
      local is_alive, state = alive(keys[i]), known[i - from + 1]
      if is_alive and not state then  -- not listed: the state stream says it, if it is one
        local stream = base .. '{' .. args[i] .. '}:' .. args[i]
        local newest = redis.pcall('XREVRANGE', stream, '+', '-', 'COUNT', 1)
        local last = newest and newest[1]
        state = last and field(last[2], 'state')
      end
      found[i - 1] = is_alive and tonumber(state) or -1
    end
  end
  return found
end

local function newest_timetag(history)
  local last = last_entry(history)
  return last and last[1] or '0-0'
end

-- KEYS: history, expiring   gives the newest timetag, then the pks of scans that are dying
local function instant(keys, args)
  local found = dying(keys[2])
  table.insert(found, 1, newest_timetag(keys[1]))
  return found
end

local BEYOND_DOUBLES = 2 ^ 53  -- numbers from here on begin the member, as texts do

-- One criterion: its sorted set, whether it asks for a number or a text, and for which.
local function criterion(index, how, wanted)
  local c = {index = index, wanted = wanted, begins = wanted .. '\0', is_number = how == 'number'}
  if c.is_number then
    c.score = string.format('%.17g', tonumber(wanted))
    c.is_score = math.abs(tonumber(wanted)) < BEYOND_DOUBLES
    c.size = redis.call('ZCOUNT', index, c.score, c.score)
  else
    c.low = '[' .. c.begins
    c.high = c.low .. '\255'
    c.size = redis.call('ZLEXCOUNT', index, c.low, c.high)
  end
  return c
end

-- The pks of all scans that fulfil it.
local function listed(c)
  local found, members = {}, nil
  if c.is_number then
    members = redis.call('ZRANGE', c.index, c.score, c.score, 'BYSCORE')
  else
    members = redis.call('ZRANGE', c.index, c.low, c.high, 'BYLEX')
  end
  for _, member in ipairs(members) do
    local before = string.sub(member, 1, -PK_LENGTH - 1)
    if before == c.begins or (c.is_number and before == '') then found[#found + 1] = pk_of(member) end
  end
  return found
end

-- Those of the pks that fulfil it as well.
local function narrowed(c, pks)
  local kept = {}
  for from = 1, #pks, CHUNK do
    local upto, members = math.min(from + CHUNK - 1, #pks), {}
    for i = from, upto do members[i - from + 1] = c.is_score and pks[i] or c.begins .. pks[i] end
    for i, score in ipairs(redis.call('ZMSCORE', c.index, unpack(members))) do
      if score and (not c.is_score or tonumber(score) == tonumber(c.wanted)) then
        kept[#kept + 1] = pks[from + i - 1]
      end
    end
  end
  return kept
end

-- Of these primary keys, or members of the index, those whose scans are there. Only scans that were told to
-- expire can count as deleted while they are there, and those are listed.
local function only_alive(expiring, before, members, after)
  local found, doomed = {}, {}
  if #members <= LOOKED_AT_ONE_BY_ONE then
    for _, member in ipairs(members) do
      if alive(before .. pk_of(member) .. after) then found[#found + 1] = member end
    end
    return found
  end
  for _, pk in ipairs(dying(expiring)) do doomed[pk] = true end
  for from = 1, #members, CHUNK do
    local upto, keys = math.min(from + CHUNK - 1, #members), {}
    for i = from, upto do keys[i - from + 1] = before .. pk_of(members[i]) .. after end
    local all = redis.call('EXISTS', unpack(keys)) == #keys
    for i, key in ipairs(keys) do
      local member = members[from + i - 1]
      if all and not doomed[pk_of(member)] or alive(key) then found[#found + 1] = member end
    end
  end
  return found
end

-- KEYS: history, expiring, then one sorted set per criterion, of which there is at least one
-- ARGS: beginning of the scans' keys, end of them, then for each criterion `exact` or `number`, and which
-- gives the newest timetag, and the scans' primary keys a line each
local function find(keys, args)
  local wanted = {}
  for i = 3, #keys do wanted[i - 2] = criterion(keys[i], args[2 * i - 3], args[2 * i - 2]) end
  table.sort(wanted, function(a, b) return a.size < b.size end)
  local pks = listed(wanted[1])
  for i = 2, #wanted do pks = narrowed(wanted[i], pks) end
  table.sort(pks)
  return {newest_timetag(keys[1]), table.concat(only_alive(keys[2], args[1], pks, args[2]), '\n')}
end

-- KEYS: history, expiring, a sorted set of the index
-- ARGS: beginning of the scans' keys, end of them, how many are few, then which members, as ZRANGE takes it
-- gives the newest timetag, and the members whose scans are there; or nothing if they are more than a few
local function few(keys, args)
  local most = tonumber(args[3])
  local members = redis.call(
    'ZRANGE', keys[3], args[4], args[5], args[6], 'LIMIT', 0, most + 1)
  if #members > most then return {} end
  return {newest_timetag(keys[1]), only_alive(keys[2], args[1], members, args[2])}
end

-- KEYS: created   ARGS: beginning of the scans' keys, end of them, since, how many to look at
-- gives the timetag up to which that is all, then timetag and key of each scan
local function announced(keys, args)
  local from = '(' .. padded(args[3]) .. '\255'
  local members = redis.call('ZRANGE', keys[1], from, '+', 'BYLEX', 'LIMIT', 0, args[4])
  local found = {args[3]}
  for _, member in ipairs(members) do
    local key, timetag = args[1] .. pk_of(member) .. args[2], unpadded(member)
    found[1] = timetag
    if alive(key) then
      found[#found + 1] = timetag
      found[#found + 1] = key
    end
  end
  return found
end

-- KEYS: created   ARGS: beginning of the scans' keys, end of them, before which timetag (empty: the newest
-- of all), how many   gives timetag and key of each scan, the newest first
local function newest(keys, args)
  local found, wanted = {}, tonumber(args[4])
  local from = args[3] == '' and '+' or '(' .. padded(args[3])
  while #found < 2 * wanted do
    local members = redis.call(
      'ZRANGE', keys[1], from, '-', 'BYLEX', 'REV', 'LIMIT', 0, math.min(wanted + 16, CHUNK))
    if #members == 0 then return found end
    for _, member in ipairs(members) do
      local key = args[1] .. pk_of(member) .. args[2]
      if #found < 2 * wanted and alive(key) then
        found[#found + 1] = unpadded(member)
        found[#found + 1] = key
      end
    end
    from = '(' .. members[#members]
  end
  return found
end

-- KEYS: protocol key   ARGS: version   gives OK, or how many keys the server holds
local function initialise(keys, args)
  local size = redis.call('DBSIZE')
  local version = redis.call('GET', keys[1])
  if size == 0 or (size == 1 and version == args[1]) then
    redis.call('SET', keys[1], args[1])
    return 'OK'
  end
  return integer(size)
end

local READ, ALWAYS = {'no-writes', 'allow-oom'}, {'allow-oom'}

redis.register_function{function_name='bdc3_create', callback=create}
redis.register_function{function_name='bdc3_advance', callback=advance, flags=ALWAYS}
redis.register_function{function_name='bdc3_load', callback=load, flags=READ}
redis.register_function{function_name='bdc3_expire', callback=expire, flags=ALWAYS}
redis.register_function{function_name='bdc3_states', callback=states, flags=READ}
redis.register_function{function_name='bdc3_instant', callback=instant, flags=READ}
redis.register_function{function_name='bdc3_find', callback=find, flags=READ}
redis.register_function{function_name='bdc3_few', callback=few, flags=READ}
redis.register_function{function_name='bdc3_announced', callback=announced, flags=READ}
redis.register_function{function_name='bdc3_newest', callback=newest, flags=READ}
redis.register_function{function_name='bdc3_initialise', callback=initialise}
