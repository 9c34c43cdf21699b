-- Reservations, as the core settles and ends them; see `server/core/src/reservation.rs`.
--
-- A record is an array: state, decided at, expires at, floor, position included, key, by a gateway (0
-- or 1), cost (or false), captured, id of its check (empty: none). What is captured is an array: counter,
-- unit, taken, used (or false), mark.

local STATE, DECIDED_AT, EXPIRES_AT, FLOOR, INCLUDED, HOLDER, BY_GATEWAY, COST, CAPTURED, REQUEST =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local OPEN, SETTLED_STATE, RELEASED, EXPIRED = 0, 1, 2, 3
local EXPIRED_PER_STEP = 4
-- Longest life of a reservation and of its record, and more.
local RECORD_KEPT_MS = 259200000
-- An id's key outlives the last of its ids by this much where that was renewed.
local RENEWED_ID_KEPT_MS = 86400000
local reservations = {}
do
  -- What a caller sees of a record's stage: open, waiting for its floor's event, over.
  local function stage(record)
    if record[STATE] == OPEN then return 'd' end
    if record[STATE] == EXPIRED and record[FLOOR] ~= 0 and less(0, record[FLOOR]) then return 'f' end
    return 'o'
  end

  -- Drops what a record has captured of counters that were set back after its decision.
  local function forget_reset(record)
    local kept = {}
    for _, captured in ipairs(record[CAPTURED]) do
      local is_kept = captured[5][1] == BUDGET or not was_reset(captured[1], record[DECIDED_AT])
      if is_kept then kept[#kept + 1] = captured end
    end
    record[CAPTURED] = kept
  end

  function reservations.load(id)
    local raw = staged[id] or redis.call('HGET', key('r'), id)
    if not raw then return nil end
    local record = cmsgpack.unpack(raw)
    if record[DECIDED_AT] <= meta[RESET_AT] then forget_reset(record) end
    record[FLOOR] = integer(record[FLOOR])
    for _, captured in ipairs(record[CAPTURED]) do
      captured[3], captured[4] = integer(captured[3]), integer(captured[4])
    end
    return record
  end

  function reservations.save(id, record)
    local kept = {}
    for place = STATE, COST do kept[place] = shown(record[place]) end
    kept[CAPTURED], kept[REQUEST] = {}, record[REQUEST] or ''
    for place, captured in ipairs(record[CAPTURED]) do
      kept[CAPTURED][place] =
        { captured[1], captured[2], shown(captured[3]), shown(captured[4]), captured[5] }
    end
    local packed = cmsgpack.pack(kept)
    staged[id] = packed
    afterwards(function() redis.call('HSET', key('r'), id, packed) end)
  end

  function reservations.enter(record, id)
    local at, score = stage(record), 0
    local list = key(at)
    if at == 'd' then
      score = record[EXPIRES_AT]
      if meta[NEXT_DUE] == 0 or score < meta[NEXT_DUE] then meta[NEXT_DUE] = score end
    elseif at == 'o' then
      meta[ENDED] = meta[ENDED] + 1
      score = meta[ENDED]
    end
    afterwards(function()
      redis.call('ZADD', list, score, id)
      redis.call('PEXPIRE', list, RECORD_KEPT_MS)
    end)
  end

  -- Takes a record out of the list that it stood in.
  local function leave(id, before)
    if before == 'd' and not left_due[id] then left_due[id], left_count = true, left_count + 1 end
    afterwards(function() redis.call('ZREM', key(before), id) end)
  end

  -- Puts a record where it belongs after a change.
  function reservations.moved(record, id, before)
    if stage(record) ~= before then
      if before ~= 'o' then leave(id, before) end
      reservations.enter(record, id)
    end
    reservations.save(id, record)
  end

  reservations.stage = stage

  local function is_budget(captured)
    return captured[5][1] == BUDGET
  end
  reservations.is_budget = is_budget

  local function correct(captured, delta)
    local counter = get(captured[1])
    if counter then
      change(captured[1])
      book.correct(counter, captured[5], captured[3], delta, now)
    end
  end

  local function give_back(record, money_kept)
    for _, captured in ipairs(record[CAPTURED]) do
      local taken, kept = captured[3]
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

  function reservations.release(record)
    give_back(record, 0)
    record[STATE] = RELEASED
  end

  function reservations.expire(record)
    give_back(record, record[FLOOR])
    record[STATE] = EXPIRED
  end

  local function expire_one(id)
    leave(id, 'd')
    local record = reservations.load(id)
    if record then
      reservations.expire(record)
      reservations.enter(record, id)
      reservations.save(id, record)
    end
  end

  -- Expires at most `limit` of those that are due; says whether that were all.
  function reservations.expire_due(limit)
    local due = redis.call('ZRANGEBYSCORE', key('d'), '-inf', now, 'LIMIT', 0, limit + left_count)
    local expired = 0
    for _, id in ipairs(due) do
      if expired < limit and not left_due[id] then
        expire_one(id)
        expired = expired + 1
      end
    end
    local first = redis.call('ZRANGE', key('d'), 0, left_count, 'WITHSCORES')
    meta[NEXT_DUE] = 0
    for place = 1, #first, 2 do
      if not left_due[first[place]] then
        meta[NEXT_DUE] = tonumber(first[place + 1])
        break
      end
    end
    return meta[NEXT_DUE] == 0 or meta[NEXT_DUE] > now
  end

  -- Lets the id of a reservation's check stand as long as that does. Whoever renews it was told of it, so
  -- that its attempts need not be known any more.
  local function remember_longer(record, id)
    local request = record[REQUEST] or ''
    if request == '' then return end
    local bucket = string.byte(request, 15) % 16 * 256 + string.byte(request, 16)
    local bucket_key = key('i') .. string.format(':%x', bucket)
    local known = redis.call('HGET', bucket_key, request)
    if not known then return end
    local content, expires_at, reservation = cmsgpack.unpack(known)
    if reservation ~= id or expires_at <= now or expires_at >= record[EXPIRES_AT] then return end
    redis.call('HSET', bucket_key, request, cmsgpack.pack(content, record[EXPIRES_AT], id))
    redis.call('PEXPIRE', bucket_key, since(record[EXPIRES_AT], now) + RENEWED_ID_KEPT_MS, 'GT')
  end

  -- Lets an open record expire later, at most so long after its decision.
  function reservations.renew(record, id, expires_at, life_ms)
    local wanted = math.min(expires_at, instant(record[DECIDED_AT] + life_ms))
    if wanted > record[EXPIRES_AT] then
      record[EXPIRES_AT] = wanted
      afterwards(function() redis.call('ZADD', key('d'), wanted, id) end)
      reservations.save(id, record)
    end
    remember_longer(record, id)
  end

  -- Makes room for one more, dropping the record that ended first. False when all are open.
  function reservations.make_room(count_max)
    -- What has just expired may go, too.
    if #later > 0 then write_changes() end
    while redis.call('HLEN', key('r')) >= count_max do
      local oldest = redis.call('ZPOPMIN', key('o'))[1]
      if not oldest then return false end
      redis.call('HDEL', key('r'), oldest)
      redis.call('HDEL', key('b'), oldest)
    end
    return true
  end

  -- A record as it goes: its figures, then those of each captured counter.
  function reservations.show(id, record)
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
end

local function expire_some()
  if meta[NEXT_DUE] > 0 and meta[NEXT_DUE] <= now then reservations.expire_due(EXPIRED_PER_STEP) end
end
