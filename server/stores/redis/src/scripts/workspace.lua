-- One workspace: a hash of its counters by id, with one field `m` for everything that there is once.
-- All its keys have the same hash tag, and differ in their last letter: c counters, r reservations,
-- b calls of these, d due, f floors that wait, o over, g budgets that are gone, i ids of decisions, z
-- counters and families of counters that were set back, with the instant.

-- Keys are garbage when nobody has touched the workspace for longer than the longest window.
local KEPT_MS = 43200000000
local KEPT_RENEWED_MS = 86400000
local GENERATION, CLOCK, SETTLED, SEQUENCE, NEXT_DUE, OVERFLOWED = 1, 2, 3, 4, 5, 6
-- UNSURE is 0, or the number of the loss after which budgets are not counted again yet; BEFORE is the
-- generation that was lost when this one began.
local FORGOTTEN, LOST_AT, ENDED, KEPT_AT, SCAN, UNSURE, BEFORE, RESET_AT = 7, 8, 9, 10, 11, 12, 13, 14
local NOT_LOST, LOST, WENT_BACK, NOT_REBUILT = 0, 1, 2, 3
local LOSS_KINDS = 4
-- How many kinds of counters there may be: a counter's kind stands with the instant of the workspace's
-- last reset at which it was written.
local KINDS = 8
-- Most values that one command is given: Lua's stack takes some 8,000.
local VALUES_PER_COMMAND = 1000

-- Of one command, from here on; `begin` clears what the one before has left, also where that failed.
local KEY, IDS_KEY
-- `now` never goes back; the server's own clock, by which keys expire, may.
local meta, now, server_now
-- Whether the hash has its `m`.
local is_stored
local loss
local counters, changed, is_changed
-- Counters that this command was the first to look at after they were set back.
local is_set_back
local created, stored_live
-- What is written besides counters, and of reservations what that is: once the counters are written, so that
-- a function that fails has done nothing.
local later, staged
-- Reservations that are due no more, where that is still to be written.
local left_due, left_count

local function key(kind)
  return string.sub(KEY, 1, -2) .. kind
end

-- Gives a command on the workspace all of a list, a part at a time.
local function in_parts(command, list)
  for first = 1, #list, VALUES_PER_COMMAND do
    redis.call(command, KEY, unpack(list, first, math.min(first + VALUES_PER_COMMAND - 1, #list)))
  end
end

local function load_counters(ids)
  for first = 1, #ids, VALUES_PER_COMMAND do
    local last = math.min(first + VALUES_PER_COMMAND - 1, #ids)
    local raw = redis.call('HMGET', KEY, unpack(ids, first, last))
    for place = first, last do counters[ids[place]] = raw[place - first + 1] or false end
  end
end

-- The workspace itself, with so many counters as go along with it.
local function load_workspace(ids)
  if #ids < VALUES_PER_COMMAND then
    local raw = redis.call('HMGET', KEY, 'm', unpack(ids))
    for place = 1, #ids do counters[ids[place]] = raw[place + 1] or false end
    return raw[1]
  end
  load_counters(ids)
  return redis.call('HGET', KEY, 'm')
end

-- The server's own.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

-- Reads the workspace with the counters named. `head` is: now (0: the server's clock), a generation
-- to begin with, the generation and the sequence number that the caller has seen.
local function begin(head, ids)
  loss, counters, is_set_back, created, stored_live = NOT_LOST, {}, {}, 0, nil
  changed, is_changed, later, staged, left_due, left_count = {}, {}, {}, {}, {}, 0
  local raw = load_workspace(ids)
  now, is_stored = head[1], raw and true
  if now == 0 then now = clock() end
  server_now = now
  if raw then
    meta = { cmsgpack.unpack(raw) }
    -- Nothing was set back, and nothing lost, in workspaces from before this was kept.
    meta[BEFORE], meta[RESET_AT] = meta[BEFORE] or '', meta[RESET_AT] or 0
    if now < meta[CLOCK] then now = meta[CLOCK] end
    if meta[GENERATION] == head[3] and meta[SEQUENCE] < head[4] then loss = WENT_BACK end
    -- Somebody who did not know of any memory began this one, and nobody has noticed that it is new.
    if head[3] ~= '' and head[3] ~= meta[GENERATION] and head[3] ~= meta[BEFORE] then loss = LOST end
  else
    meta = { head[2], now, 0, 0, 0, 0, 0, 0, 0, 0, '0', 0, '', 0 }
    if head[3] ~= '' then loss = LOST end
  end
  if loss == LOST then meta[LOST_AT], meta[BEFORE] = now, head[3] end
  if loss ~= NOT_LOST then
    -- Whoever expects the number that was lost must not take this one for it.
    if meta[SEQUENCE] < head[4] then meta[SEQUENCE] = head[4] end
    meta[UNSURE] = meta[SEQUENCE] + 1
  elseif meta[UNSURE] ~= 0 then
    loss = NOT_REBUILT
  end
  meta[CLOCK], lost_at, is_unsure = now, meta[LOST_AT], meta[UNSURE] ~= 0
end

-- Whether a counter was set back after an instant: what was decided by then counts in it no more.
local function was_reset(id, at)
  if at > meta[RESET_AT] then return false end
  local found = redis.call('HMGET', key('z'), id, string.sub(id, -4))
  return at <= math.max(tonumber(found[1] or -1), tonumber(found[2] or -1))
end

-- Nothing used from here on; budgets stay.
local function set_back(counter)
  local kind = counter[1]
  if kind == BUDGET then return false end
  if kind == BUCKET then
    counter[3], counter[4], counter[5], counter[6], counter[7], counter[8] = 0, 0, 1, 1, 0, 0
    counter.lows = nil
  elseif kind == WINDOW then
    counter[5] = 0
  elseif kind == CONCURRENCY then
    counter[3], counter[4], counter[5] = 0, 0, 0
  else
    for place = #counter, 5, -1 do counter[place] = nil end
    counter[3] = 0
  end
  return true
end

-- A counter as it was written, and as the resets since have left it.
local function decoded(id, raw)
  local counter = { cmsgpack.unpack(raw) }
  for place = 3, #counter do
    if type(counter[place]) == 'string' then counter[place] = integer(counter[place]) end
  end
  local written_at = floor(counter[1] / KINDS)
  counter[1] = fmod(counter[1], KINDS)
  if counter[1] == BUCKET then lowest.set_apart(counter) end
  if written_at < meta[RESET_AT] and was_reset(id, written_at + 1) then
    is_set_back[id] = set_back(counter)
  end
  return counter
end

-- A counter that exists, or false.
local function get(id)
  local counter = counters[id]
  if counter == nil then counter = redis.call('HGET', KEY, id) end
  if type(counter) == 'string' then counter = decoded(id, counter) end
  counters[id] = counter
  return counter
end

-- A counter that is missing. What was lost before it was set back is nothing that it owes.
local function begun(id, limit, at)
  if lost_at > 0 and was_reset(id, lost_at) then return fresh(limit, at, meta[SETTLED]) end
  return missing(limit, at, meta[SETTLED])
end

local function change(id)
  if not is_changed[id] then
    is_changed[id] = true
    changed[#changed + 1] = id
  end
end

local function afterwards(write)
  later[#later + 1] = write
end

local function live()
  if not stored_live then
    stored_live = redis.call('HLEN', KEY)
    if is_stored then stored_live = stored_live - 1 end
  end
  return stored_live + created
end

-- A counter to change, made where there is none.
local function get_or_insert(id, limit, at)
  local counter = get(id)
  if not counter then
    counter = begun(id, limit, at)
    counters[id], created = counter, created + 1
  end
  change(id)
  return counter
end

-- The same, of the limit's own kind.
local function get_to_take(id, limit)
  local counter = get_or_insert(id, limit, now)
  if counter[1] ~= kind_of(limit) then
    counter = fresh(limit, now, counter[2])
    counters[id] = counter
  end
  return counter
end

local function get_or_fresh(id, limit)
  return get(id) or begun(id, limit, now)
end

-- The counter that a charge falls on: its own, or the overflow counter when its own would be one too
-- many.
local function fallen(own, overflow, live_max)
  if get(own) or live() < live_max then return own end
  return overflow
end

-- Where several fall, one after the other: each new counter takes one of the places that are left.
local function fall(limits, live_max)
  local places, free = {}, nil
  for place = 1, #limits do
    local own = limits[place][2]
    places[place] = own
    if not get(own) then
      free = free or live_max - live()
      if free <= 0 then places[place] = limits[place][3] end
      free = free - 1
    end
  end
  return places
end

local function pack_state(state)
  local packed = {}
  for place = 1, #state do packed[place] = shown(state[place]) end
  local lows = state.lows
  if lows then
    for place = 1, #lows do packed[#packed + 1] = shown(lows[place]) end
  end
  packed[1] = state[1] + KINDS * meta[RESET_AT]
  return cmsgpack.pack(unpack(packed))
end

-- Writes everything that changed so far.
local function write_changes()
  local renewed = now - meta[KEPT_AT] >= KEPT_RENEWED_MS
  if renewed then meta[KEPT_AT] = now end
  local fields, gone = { 'm', cmsgpack.pack(unpack(meta)) }, {}
  for place = 1, #changed do
    local id = changed[place]
    local counter = counters[id]
    if counter then
      fields[#fields + 1], fields[#fields + 2] = id, pack_state(counter)
    else
      gone[#gone + 1] = id
    end
  end
  in_parts('HSET', fields)
  in_parts('HDEL', gone)
  if renewed then redis.call('PEXPIRE', KEY, KEPT_MS) end
  for place = 1, #later do later[place]() end
  is_stored = true
  changed, is_changed, later, staged, left_due, left_count = {}, {}, {}, {}, {}, 0
end

local function finish()
  meta[SEQUENCE] = meta[SEQUENCE] + 1
  write_changes()
end

-- How every answer begins.
local function answer(code)
  return { code, meta[GENERATION], meta[SEQUENCE], meta[UNSURE] * LOSS_KINDS + loss, now }
end

-- Lets callers run something on the keys and with the command that they give.
local function define(name, run)
  redis.register_function(name .. '_' .. VERSION, function(keys, arguments)
    fmod, floor = math.fmod, math.floor
    KEY, IDS_KEY = keys[1], keys[2]
    return run(cmsgpack.unpack(arguments[1]))
  end)
end
