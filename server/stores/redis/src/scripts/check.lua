-- A check: all limits pass and all are taken, or nothing changes; see `server/core/src/decision.rs`.
--
-- The command: now, generation offered, generation and sequence seen, the caller's now, mode, most live
-- counters, most reservations, most ids of a bucket, charges, request (or false), reservation (or
-- false), whether only to recall.

local CONSUME, PEEK, RESERVE = 0, 1, 2
local ENFORCED, SHADOW = 0, 2
local DECIDED, CONTENT_DIFFERS, UNDECIDED, FULL, TAKEN = 0, 1, 2, 3, 4
-- An id's key outlives the last of its ids by this much.
local ID_KEPT_MS = 60000
-- And by this much where the command's own clock counts, as in tests: the server's may be far ahead.
local ID_KEPT_BY_COMMAND_MS = 86400000
-- One of so many new ids looks whether its bucket has too many.
local ID_PURGE_EVERY = 16

local command = cmsgpack.unpack(ARGV[1])
local asked_at, mode, live_max = command[5], command[6], command[7]
local charges, request, reserves = command[10], command[11], command[12]

local ids = {}
for place = 1, #charges do
  local charge = charges[place]
  ids[place] = charge[2]
  charge[4], charge[5], charge[7] = integer(charge[4]), integer(charge[5]), integer(charge[7])
end
begin(command, ids)
expire_some()
local places = fall(charges, live_max)

local function in_workspace_time(at)
  return instant(at + since(now, asked_at))
end

-- The answer: allowed, replayed, reservation with expiry and cost, then six figures for each charge.
local function decided(allowed, replayed, reservation, readings)
  finish()
  local reply = answer(DECIDED)
  reply[6], reply[7] = allowed and 1 or 0, replayed and 1 or 0
  reply[8], reply[9], reply[10] = reservation[1] or '', reservation[2] or 0, reservation[3] or ''
  for place = 1, #readings do
    for figure = 1, 6 do reply[#reply + 1] = shown(readings[place][figure]) end
  end
  return reply
end

local function readings_of(with_need)
  local readings, allowed = {}, true
  for place = 1, #charges do
    local charge = charges[place]
    local counter = get_or_fresh(places[place], charge)
    local used, held, reset, wait = read(counter, charge, with_need and charge[4] or 0, now)
    readings[place] = { used, held, reset, wait, -1, -1 }
    if wait ~= PASSES and charge[6] == ENFORCED then allowed = false end
  end
  return readings, allowed
end

-- The decision that was taken before for the same id.
local function replay()
  local known = redis.call('HGET', KEYS[2], request[1])
  if not known then return nil end
  local content, expires_at, id = cmsgpack.unpack(known)
  if expires_at <= now then return nil end
  local reservation = {}
  if id ~= '' then
    local record = reservations().load(id)
    if not record or record[STATE] > SETTLED_STATE then return nil end
    reservation = { id, record[EXPIRES_AT], record[COST] or '' }
  end
  if content ~= request[2] then
    finish()
    return answer(CONTENT_DIFFERS)
  end
  return decided(true, true, reservation, (readings_of(false)))
end

-- Drops ids whose time is over; where too many stand, those that end first, which are counted.
local function purge_ids(ids_max)
  local all, standing = redis.call('HGETALL', KEYS[2]), {}
  for place = 1, #all, 2 do
    local _, expires_at = cmsgpack.unpack(all[place + 1])
    if expires_at <= now then
      redis.call('HDEL', KEYS[2], all[place])
    else
      standing[#standing + 1] = { expires_at, all[place] }
    end
  end
  if #standing < ids_max then return end
  table.sort(standing, function(a, b) return a[1] < b[1] end)
  for place = 1, #standing - floor(ids_max / 2) do
    redis.call('HDEL', KEYS[2], standing[place][2])
    meta[FORGOTTEN] = meta[FORGOTTEN] + 1
  end
end

local function remember(id)
  local expires_at = in_workspace_time(request[3])
  if string.byte(request[1], 16) % ID_PURGE_EVERY == 0 and redis.call('HLEN', KEYS[2]) >= command[9] then
    purge_ids(command[9])
  end
  redis.call('HSET', KEYS[2], request[1], cmsgpack.pack(request[2], expires_at, id))
  local margin_ms = command[1] == 0 and ID_KEPT_MS or ID_KEPT_BY_COMMAND_MS
  local kept_ms = since(expires_at, now) + margin_ms
  if redis.call('PEXPIRE', KEYS[2], kept_ms, 'GT') == 0 then
    redis.call('PEXPIRE', KEYS[2], kept_ms, 'NX')
  end
end

local function count_overflow()
  for place = 1, #charges do
    if places[place] ~= charges[place][2] then meta[OVERFLOWED] = meta[OVERFLOWED] + 1 end
  end
end

local function take_all(readings)
  for place = 1, #charges do
    local charge, reading = charges[place], readings[place]
    local refused = charge[6] == SHADOW and reading[4] ~= PASSES
    if not refused and charge[5] ~= 0 then
      local counter = get_to_take(places[place], charge)
      reading[5], reading[6] = take(counter, charge, charge[5], now)
      reading[1], reading[2], reading[3] = used_of(counter, charge, now)
    elseif not refused and mode == RESERVE then
      local counter = get_or_fresh(places[place], charge)
      if counter[1] ~= kind_of(charge) then counter = fresh(charge, now, 0) end
      reading[5], reading[6] = place_of_charge(counter, charge, now)
    end
  end
end

local function mark_of(charge, reading)
  local kind = kind_of(charge)
  if kind == BUCKET then return { kind, reading[5], charge[8], charge[9] } end
  return { kind, reading[5], reading[6] }
end

local function insert(readings)
  local captured, expires_at = {}, in_workspace_time(reserves[2])
  for place = 1, #charges do
    local charge, reading = charges[place], readings[place]
    if reading[5] >= 0 then
      captured[#captured + 1] =
        { places[place], charge[11], charge[5], false, mark_of(charge, reading) }
    end
  end
  local floor_left, cost = integer(reserves[3]), reserves[4]
  local record = { OPEN, now, expires_at, floor_left, 0, reserves[5], reserves[6], cost, captured }
  record[REQUEST] = request and request[1] or ''
  local lib = reservations()
  lib.save(reserves[1], record)
  redis.call('HSET', key('b'), reserves[1], reserves[7])
  redis.call('PEXPIRE', key('r'), RECORD_KEPT_MS)
  redis.call('PEXPIRE', key('b'), RECORD_KEPT_MS)
  lib.enter(record, reserves[1])
  return { reserves[1], expires_at, cost or '' }
end

local function failed(code)
  finish()
  return answer(code)
end

if request then
  local again = replay()
  if again then return again end
end
if command[13] then return failed(UNDECIDED) end
if mode == RESERVE and redis.call('HEXISTS', key('r'), reserves[1]) == 1 then return failed(TAKEN) end
local readings, allowed = readings_of(true)
local reservation = {}
if allowed and mode ~= PEEK then
  if mode == RESERVE and not reservations().make_room(command[8]) then return failed(FULL) end
  take_all(readings)
  if mode == RESERVE then reservation = insert(readings) end
  if request then remember(reservation[1] or '') end
end
if mode ~= PEEK then count_overflow() end
return decided(allowed, false, reservation, readings)
