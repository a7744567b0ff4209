#!lua name=blissdata_2
-- What must happen at one instant on the server. Loaded by the backends; the number in the names
-- grows with every change of behaviour, so that programs of different age can share a server.
-- Replies of the stream functions begin with a word: OK, CONFLICT, SEALED, REWOUND, VANISHED.

local SEAL = '18446744073709551615-18446744073709551615'
local DELETION_GRACE_MS = 10000
local FORGOTTEN_MS = 60000

local function integer(number) return string.format('%.0f', number) end

local function first_index(id) return tonumber(string.match(id, '^(%d+)-')) end

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return nil
end

-- Length of an entry. One that lies counts as one point: what is written behind it shows the lie.
local function points(fields)
  local len = field(fields, 'len') or '1'
  local known = #len <= 15 and string.match(len, '^%d+$') and tonumber(len)
  return known and math.max(known, 1) or 1
end

local function last_entry(key) return redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1] end

-- Time to live of a scan's document [ms]; nil when the scan counts as deleted.
local function alive(scan)
  local ttl = redis.call('PTTL', scan)
  if ttl == -2 or (ttl >= 0 and ttl <= DELETION_GRACE_MS) then return nil end
  return ttl
end

-- Called before the first entry of a stream: its scan must be there, and they expire together.
local function may_begin(scan) return scan == nil or alive(scan) ~= nil end

local function begun(stream, scan, members)
  if scan == nil then return end
  if members then redis.call('SADD', members, stream) end
  local ttl = alive(scan)
  if ttl and ttl >= 0 then
    redis.call('PEXPIRE', stream, ttl, 'LT')
    if members then redis.call('PEXPIRE', members, ttl, 'LT') end
  end
end

-- KEYS: stream [, scan [, members]]   ARGS: index, then len and payload of each entry
local function append(keys, args)
  local stream, index = keys[1], tonumber(args[1])
  local last = last_entry(stream)
  local fresh = false
  if last then
    if last[1] == SEAL then return {'SEALED', field(last[2], 'id') or ''} end
    local at = first_index(last[1]) + points(last[2])
    if at > index then return {'CONFLICT', integer(at)} end
    if at < index then return {'REWOUND', integer(at)} end
  elseif redis.call('EXISTS', stream) == 0 then
    if not may_begin(keys[2]) then return {'VANISHED', '0'} end
    if index > 0 then return {'REWOUND', '0'} end
    fresh = true
  end
  for i = 2, #args, 2 do
    local id = integer(index) .. '-1'
    if args[i] == '1' then
      redis.call('XADD', stream, id, 'payload', args[i + 1])
    else
      redis.call('XADD', stream, id, 'payload', args[i + 1], 'len', args[i])
    end
    index = index + tonumber(args[i])
  end
  if fresh then begun(stream, keys[2], keys[3]) end
  return {'OK', integer(index)}
end

-- KEYS: stream [, scan [, members]]   ARGS: expected length, or empty
local function seal(keys, args)
  local stream = keys[1]
  local last = last_entry(stream)
  local at = 0
  if last then
    if last[1] == SEAL then return {'OK', field(last[2], 'id') or ''} end
    at = first_index(last[1]) + points(last[2])
  elseif not may_begin(keys[2]) then
    return {'VANISHED', '0'}
  end
  local expected = args[1] == '' and at or tonumber(args[1])
  if at > expected then return {'CONFLICT', integer(at)} end
  if at < expected then return {'REWOUND', integer(at)} end
  redis.call('XADD', stream, SEAL, 'id', integer(at))
  if not last then begun(stream, keys[2], keys[3]) end
  return {'OK', integer(at)}
end

-- KEYS: stream   gives of its last entry the id, `len` and, of a seal, `id`; nothing if there is none
local function tail(keys, args)
  local last = last_entry(keys[1])
  if not last then return {} end
  return {last[1], field(last[2], 'len') or '', field(last[2], 'id') or ''}
end

-- KEYS: streams   gives for each the id of its first entry, and of its last one id, `len` and, of a seal,
-- `id`; nothing for one that has none
local function bounds(keys, args)
  local found = {}
  for i, key in ipairs(keys) do
    local last = last_entry(key)
    if last then
      local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
      found[i] = {first[1], last[1], field(last[2], 'len') or '', field(last[2], 'id') or ''}
    else
      found[i] = {}
    end
  end
  return found
end

-- KEYS: stream   ARGS: index
local function trim(keys, args)
  local stream, index = keys[1], tonumber(args[1])
  local last = last_entry(stream)
  if not last then return {'OK', '0'} end
  index = math.min(index, last[1] == SEAL and tonumber(field(last[2], 'id')) or first_index(last[1]))
  if index <= 0 then return {'OK', '0'} end
  local before = redis.call('XREVRANGE', stream, integer(index - 1), '-', 'COUNT', 1)[1]
  if not before then return {'OK', '0'} end
  local from = index
  if first_index(before[1]) + points(before[2]) > index then from = first_index(before[1]) end
  return {'OK', integer(redis.call('XTRIM', stream, 'MINID', '=', integer(from)))}
end

-- ---------------------------------------------------------------- the catalogue of the plain layout

local function padded(timetag)
  local ms, n = string.match(timetag, '^(%d+)-(%d+)$')
  return string.format('%016.0f-%010.0f', tonumber(ms), tonumber(n))
end

local function unpadded(text)
  local ms, n = string.match(text, '^(%d+)-(%d+)')
  return integer(tonumber(ms)) .. '-' .. integer(tonumber(n))
end

-- KEYS: scan, state, history, created, states, then one sorted set per field
-- ARGS: document, pk, history length, then score and member for each field
local function create(keys, args)
  local scan, state, pk = keys[1], keys[2], args[2]
  if redis.call('EXISTS', scan) == 1 then return last_entry(state)[1] end
  local timetag = redis.call('XADD', keys[3], 'MAXLEN', '~', args[3], '*', 'key', scan)
  redis.call('SET', scan, args[1])
  redis.call('ZADD', keys[4], 0, padded(timetag) .. ':' .. pk)
  redis.call('ZADD', keys[5], 0, pk)
  for i = 6, #keys do
    redis.call('ZADD', keys[i], args[4 + 2 * (i - 6)], args[5 + 2 * (i - 6)])
  end
  return redis.call('XADD', state, '*', 'state', '0')
end

-- KEYS: scan, state, states   ARGS: from, to, document, token, pk
-- The token lets a repeat after a lost reply see that it was done already.
local function advance(keys, args)
  if not alive(keys[1]) then return {'VANISHED', ''} end
  local last = last_entry(keys[2])
  if not last then return {'VANISHED', ''} end
  local state = field(last[2], 'state')
  if state == args[2] and field(last[2], 'token') == args[4] then return {'OK', last[1]} end
  if state ~= args[1] then return {'CONFLICT', state} end
  redis.call('SET', keys[1], args[3], 'KEEPTTL')
  redis.call('ZADD', keys[3], args[2], args[5])
  return {'OK', redis.call('XADD', keys[2], '*', 'state', args[2], 'token', args[4])}
end

-- KEYS: scan, state   gives document, state id, state; or nothing
local function load(keys, args)
  if not alive(keys[1]) then return {} end
  local last = last_entry(keys[2])
  if not last then return {redis.call('GET', keys[1])} end
  return {redis.call('GET', keys[1]), last[1], field(last[2], 'state')}
end

local CHUNK = 4000  -- a command in here takes no more arguments than fit on Lua's stack

-- KEYS: states, then scans   ARGS: beginning of the state streams' keys, then the scans' pks
-- gives a state each, -1 for what is gone
local function states(keys, args)
  local found, base = {}, args[1]
  for from = 2, #args, CHUNK do
    local upto = math.min(from + CHUNK - 1, #args)
    local known = redis.call('ZMSCORE', keys[1], unpack(args, from, upto))
    for i = from, upto do
      local state = alive(keys[i]) and known[i - from + 1]
      if state == false then  -- not listed: the state stream says it, if it is one
        local stream = base .. '{' .. args[i] .. '}:' .. args[i]
        local newest = redis.pcall('XREVRANGE', stream, '+', '-', 'COUNT', 1)
        local last = newest and newest[1]
        state = last and field(last[2], 'state')
      end
      found[i - 1] = tonumber(state) or -1
    end
  end
  return found
end

-- KEYS: scan, state, members, expiring, then sorted sets
-- ARGS: seconds, pk, then members to remove from the sets
local function expire(keys, args)
  local seconds = args[1]
  for _, stream in ipairs(redis.call('SMEMBERS', keys[3])) do
    redis.call('EXPIRE', stream, seconds, 'LT')
  end
  for i = 1, 3 do redis.call('EXPIRE', keys[i], seconds, 'LT') end
  local ttl = redis.call('PTTL', keys[1])
  if ttl >= 0 then
    local now = tonumber(redis.call('TIME')[1]) * 1000
    redis.call('ZADD', keys[4], integer(now + ttl), args[2])
    redis.call('ZREMRANGEBYSCORE', keys[4], '-inf', integer(now - FORGOTTEN_MS))  -- gone long since
  end
  for i = 5, #keys do redis.call('ZREM', keys[i], args[i - 2]) end
  return 'OK'
end

local PK_LENGTH = 26

local function pk_of(member) return string.sub(member, -PK_LENGTH) end

-- Whether the text of an index member is what was asked for.
local function matches(member, how, wanted)
  local text = string.sub(member, 1, -PK_LENGTH - 2)
  if how == 'exact' then return text == wanted end
  if how == 'prefix' then return string.sub(text, 1, #wanted) == wanted end
  if how == 'suffix' then return #text >= #wanted and string.sub(text, -#wanted) == wanted end
  return string.find(text, wanted, 1, true) ~= nil
end

local function candidates(index, how, wanted)
  if how == 'number' then
    local found, score = {}, string.format('%.17g', tonumber(wanted))
    for _, member in ipairs(redis.call('ZRANGE', index, score, score, 'BYSCORE')) do
      -- A number that doubles cannot tell from its neighbours begins the member, as texts do.
      if #member == PK_LENGTH or matches(member, 'exact', wanted) then found[#found + 1] = member end
    end
    return found
  end
  local members
  if how == 'exact' or how == 'prefix' then
    local low, high = '[' .. wanted, '[' .. wanted .. '\255'
    members = redis.call('ZRANGE', index, low, high, 'BYLEX')
  else
    members = redis.call('ZRANGE', index, 0, -1)
  end
  local found = {}
  for _, member in ipairs(members) do
    if matches(member, how, wanted) then found[#found + 1] = member end
  end
  return found
end

local function newest_timetag(history)
  local last = last_entry(history)
  return last and last[1] or '0-0'
end

-- Adds to `found` the keys of those scans that are there. Only scans that were told to expire can count as
-- deleted while they are there, and those are listed.
local function only_alive(found, expiring, before, pks, after)
  local now = tonumber(redis.call('TIME')[1]) * 1000
  local soon = integer(now + DELETION_GRACE_MS + 1000)
  local dying = {}
  for _, pk in ipairs(redis.call('ZRANGE', expiring, integer(now), soon, 'BYSCORE')) do dying[pk] = true end
  for from = 1, #pks, CHUNK do
    local upto, keys = math.min(from + CHUNK - 1, #pks), {}
    for i = from, upto do keys[i - from + 1] = before .. pks[i] .. after end
    local all = redis.call('EXISTS', unpack(keys)) == #keys
    for i, key in ipairs(keys) do
      if all and not dying[pks[from + i - 1]] or alive(key) then found[#found + 1] = key end
    end
  end
  return found
end

-- KEYS: history, created, expiring, then one sorted set per criterion
-- ARGS: beginning of the scans' keys, end of them, then how and what for each criterion
local function find(keys, args)
  local pks
  if #keys == 4 and args[3] == 'exact' then  -- by far the most frequent: in order already
    pks = {}
    local low = '[' .. args[4] .. '\0'
    for _, member in ipairs(redis.call('ZRANGE', keys[4], low, low .. '\255', 'BYLEX')) do
      if #member == #args[4] + 1 + PK_LENGTH then pks[#pks + 1] = string.sub(member, -PK_LENGTH) end
    end
    return only_alive({newest_timetag(keys[1])}, keys[3], args[1], pks, args[2])
  end
  if #keys == 3 then
    pks = {}
    for _, member in ipairs(redis.call('ZRANGE', keys[2], 0, -1)) do pks[#pks + 1] = pk_of(member) end
  end
  for i = 4, #keys do
    local hits, kept = {}, {}
    for _, member in ipairs(candidates(keys[i], args[3 + 2 * (i - 4)], args[4 + 2 * (i - 4)])) do
      local pk = pk_of(member)
      hits[pk] = true
      if pks == nil then kept[#kept + 1] = pk end
    end
    for _, pk in ipairs(pks or {}) do
      if hits[pk] then kept[#kept + 1] = pk end
    end
    pks = kept
  end
  table.sort(pks)
  return only_alive({newest_timetag(keys[1])}, keys[3], args[1], pks, args[2])
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

-- KEYS: created   ARGS: beginning of the scans' keys, end of them   gives timetag and key, or nothing
local function newest(keys, args)
  local CHUNK, from = 64, 0
  while true do
    local members = redis.call('ZRANGE', keys[1], from, from + CHUNK - 1, 'REV')
    for _, member in ipairs(members) do
      local key = args[1] .. pk_of(member) .. args[2]
      if alive(key) then return {unpadded(member), key} end
    end
    if #members < CHUNK then return {} end
    from = from + CHUNK
  end
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

redis.register_function{function_name='bd2_append', callback=append}
redis.register_function{function_name='bd2_seal', callback=seal, flags=ALWAYS}
redis.register_function{function_name='bd2_trim', callback=trim, flags=ALWAYS}
redis.register_function{function_name='bd2_create', callback=create}
redis.register_function{function_name='bd2_advance', callback=advance, flags=ALWAYS}
redis.register_function{function_name='bd2_load', callback=load, flags=READ}
redis.register_function{function_name='bd2_states', callback=states, flags=READ}
redis.register_function{function_name='bd2_expire', callback=expire, flags=ALWAYS}
redis.register_function{function_name='bd2_tail', callback=tail, flags=READ}
redis.register_function{function_name='bd2_bounds', callback=bounds, flags=READ}
redis.register_function{function_name='bd2_find', callback=find, flags=READ}
redis.register_function{function_name='bd2_announced', callback=announced, flags=READ}
redis.register_function{function_name='bd2_newest', callback=newest, flags=READ}
redis.register_function{function_name='bd2_initialise', callback=initialise}
