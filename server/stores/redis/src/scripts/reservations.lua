-- Reservations, as the core settles and ends them; see `server/core/src/reservation.rs`. Made on first
-- need: a check that consumes has nothing to do with them.
--
-- A record is an array: state, decided at, expires at, floor, position included, key, by a gateway (0
-- or 1), cost (or false), captured. What is captured is an array: counter, unit, taken, used (or
-- false), mark.

local STATE, DECIDED_AT, EXPIRES_AT, FLOOR, INCLUDED, HOLDER, BY_GATEWAY, COST, CAPTURED =
  1, 2, 3, 4, 5, 6, 7, 8, 9
local OPEN, SETTLED_STATE, RELEASED, EXPIRED = 0, 1, 2, 3
local EXPIRED_PER_STEP = 4
-- Longest life of a reservation and of its record, and more.
local RECORD_KEPT_MS = 259200000
local reservations_made

local function reservations()
  if reservations_made then return reservations_made end
  local lib, book = {}, books()

  -- What a caller sees of a record's stage: open, waiting for its floor's event, over.
  local function stage(record)
    if record[STATE] == OPEN then return 'd' end
    if record[STATE] == EXPIRED and record[FLOOR] ~= 0 and less(0, record[FLOOR]) then return 'f' end
    return 'o'
  end

  function lib.load(id)
    local raw = redis.call('HGET', key('r'), id)
    if not raw then return nil end
    local record = cmsgpack.unpack(raw)
    record[FLOOR] = integer(record[FLOOR])
    for _, captured in ipairs(record[CAPTURED]) do
      captured[3], captured[4] = integer(captured[3]), integer(captured[4])
    end
    return record
  end

  function lib.save(id, record)
    local kept = {}
    for place = 1, 8 do kept[place] = shown(record[place]) end
    kept[9] = {}
    for place, captured in ipairs(record[CAPTURED]) do
      kept[9][place] =
        { captured[1], captured[2], shown(captured[3]), shown(captured[4]), captured[5] }
    end
    redis.call('HSET', key('r'), id, cmsgpack.pack(kept))
  end

  function lib.enter(record, id)
    local at, list = stage(record), nil
    local score = 0
    if at == 'd' then
      score = record[EXPIRES_AT]
      if meta[NEXT_DUE] == 0 or score < meta[NEXT_DUE] then meta[NEXT_DUE] = score end
    elseif at == 'o' then
      meta[ENDED] = meta[ENDED] + 1
      score = meta[ENDED]
    end
    list = key(at)
    redis.call('ZADD', list, score, id)
    redis.call('PEXPIRE', list, RECORD_KEPT_MS)
  end

  -- Puts a record where it belongs after a change.
  function lib.moved(record, id, before)
    if stage(record) ~= before then
      if before ~= 'o' then redis.call('ZREM', key(before), id) end
      lib.enter(record, id)
    end
    lib.save(id, record)
  end

  lib.stage = stage

  local function is_budget(captured)
    return captured[5][1] == BUDGET
  end
  lib.is_budget = is_budget

  local function correct(captured, delta)
    local counter = get(captured[1])
    if counter then
      change(captured[1])
      book.correct(counter, captured[5], captured[3], delta, now)
    end
  end

  local function give_back(record, money_kept)
    for _, captured in ipairs(record[CAPTURED]) do
      local taken, kept = captured[3], nil
      if is_budget(captured) then
        kept = least(taken, money_kept)
      else
        kept = least(captured[4] or 0, taken)
      end
      local delta = subtract(kept, taken)
      if delta ~= 0 then
        correct(captured, delta)
        captured[3] = kept
      end
    end
  end

  function lib.release(record)
    give_back(record, 0)
    record[STATE] = RELEASED
  end

  function lib.expire(record)
    give_back(record, record[FLOOR])
    record[STATE] = EXPIRED
  end

  -- Expires at most `limit` of those that are due; says whether that were all.
  function lib.expire_due(limit)
    local due = redis.call('ZRANGEBYSCORE', key('d'), '-inf', now, 'LIMIT', 0, limit)
    for _, id in ipairs(due) do
      redis.call('ZREM', key('d'), id)
      local record = lib.load(id)
      if record then
        lib.expire(record)
        lib.enter(record, id)
        lib.save(id, record)
      end
    end
    local first = redis.call('ZRANGE', key('d'), 0, 0, 'WITHSCORES')
    meta[NEXT_DUE] = tonumber(first[2] or 0)
    return meta[NEXT_DUE] == 0 or meta[NEXT_DUE] > now
  end

  -- Makes room for one more, dropping the record that ended first. False when all are open.
  function lib.make_room(count_max)
    while redis.call('HLEN', key('r')) >= count_max do
      local oldest = redis.call('ZPOPMIN', key('o'))[1]
      if not oldest then return false end
      redis.call('HDEL', key('r'), oldest)
      redis.call('HDEL', key('b'), oldest)
    end
    return true
  end

  -- A record as it goes: its figures, then those of each captured counter.
  function lib.show(id, record)
    local reply = { id, redis.call('HGET', key('b'), id) or '' }
    for place = STATE, BY_GATEWAY do reply[#reply + 1] = shown(record[place]) end
    for _, captured in ipairs(record[CAPTURED]) do
      local mark = captured[5]
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = captured[1], captured[2], shown(captured[3])
      reply[#reply + 1] = captured[4] and shown(captured[4]) or ''
      for place = 1, 4 do reply[#reply + 1] = mark[place] or 0 end
    end
    return reply
  end

  reservations_made = lib
  return lib
end

local function expire_some()
  if meta[NEXT_DUE] > 0 and meta[NEXT_DUE] <= now then reservations().expire_due(EXPIRED_PER_STEP) end
end
