#!lua name=blissdata_3
-- What must happen at one instant to data streams, in every layout. Loaded by the backends; the number in
-- the names grows with every change of behaviour, so that programs of different age can share a server.
-- Replies begin with a word: OK, CONFLICT, SEALED, REWOUND, VANISHED.

local SEAL = '18446744073709551615-18446744073709551615'
local DELETION_GRACE_MS = 10000

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

local READ, ALWAYS = {'no-writes', 'allow-oom'}, {'allow-oom'}

redis.register_function{function_name='bd3_append', callback=append}
redis.register_function{function_name='bd3_seal', callback=seal, flags=ALWAYS}
redis.register_function{function_name='bd3_trim', callback=trim, flags=ALWAYS}
redis.register_function{function_name='bd3_tail', callback=tail, flags=READ}
redis.register_function{function_name='bd3_bounds', callback=bounds, flags=READ}
