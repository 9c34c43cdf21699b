-- Everything besides decisions and settlements. The command: now, generation offered, generation and
-- sequence seen, what to do, and what that needs.
do
  local DONE, BEHIND, FULL = 0, 1, 2
  local SHOWN_FLOORS_MAX = 256
  local EXPIRED_AT_ONCE = 256
  local RECORD_MS = 86400000
  -- How long a budget has to be unknown before its counters go, and how long that is remembered.
  local RETIRED_MS_MIN, RETIRED_KEPT_MS = 3600000, 7200000
  -- Resets that are remembered: each may have to be looked up for every reservation from before it.
  local RESETS_KEPT_MAX = 1000

  local command

  local function append(reply, values)
    for place = 1, #values do reply[#reply + 1] = values[place] end
  end

  local does = {}

  -- Limits: the counters on which a check over all of them would fall.
  function does.read(limits, live_max)
    local ids = {}
    for place, limit in ipairs(limits) do
      ids[place], limit[7] = limit[2], integer(limit[7])
    end
    begin(command, ids)
    local places, figures = fall(limits, live_max), {}
    for place, limit in ipairs(limits) do
      local used, held, reset = read(get_or_fresh(places[place], limit), limit, 0, now)
      append(figures, { shown(used), shown(held), reset })
    end
    finish()
    local reply = answer(DONE)
    append(reply, figures)
    return reply
  end

  function does.reservation(id)
    begin(command, {})
    if loss ~= NOT_LOST then finish() end
    local reply, record = answer(DONE), reservations.load(id)
    if record then append(reply, reservations.show(id, record)) end
    return reply
  end

  function does.release(id, holder, by_gateway)
    begin(command, {})
    local record, state = reservations.load(id), -1
    if record and record[HOLDER] == holder and record[BY_GATEWAY] == by_gateway then
      local before = reservations.stage(record)
      if record[STATE] == OPEN and record[EXPIRES_AT] <= now then
        reservations.expire(record)
      elseif record[STATE] == OPEN then
        reservations.release(record)
      end
      reservations.moved(record, id, before)
      state = record[STATE]
    end
    finish()
    local reply = answer(DONE)
    reply[6] = state
    return reply
  end

  function does.renew(id, holder, by_gateway, until_when)
    begin(command, {})
    local record, state, expires_at = reservations.load(id), -1, 0
    if record and record[HOLDER] == holder and record[BY_GATEWAY] == by_gateway then
      if record[STATE] == OPEN and record[EXPIRES_AT] <= now then
        local before = reservations.stage(record)
        reservations.expire(record)
        reservations.moved(record, id, before)
      elseif record[STATE] == OPEN then
        local wanted, asked_at, life_ms = unpack(until_when)
        -- The workspace's time may be ahead of the caller's clock.
        reservations.renew(record, id, instant(wanted + since(now, asked_at)), life_ms)
      end
      state, expires_at = record[STATE], record[EXPIRES_AT]
    end
    finish()
    local reply = answer(DONE)
    reply[6], reply[7] = state, expires_at
    return reply
  end

  -- Whether there is room to remember one more reset: as long as reservations from before it may be open.
  local function may_remember_reset()
    if redis.call('HLEN', key('z')) < RESETS_KEPT_MAX then return true end
    local all = redis.call('HGETALL', key('z'))
    for place = 1, #all, 2 do
      if now >= instant(tonumber(all[place + 1]) + RECORD_KEPT_MS) then
        redis.call('HDEL', key('z'), all[place])
      end
    end
    return redis.call('HLEN', key('z')) < RESETS_KEPT_MAX
  end

  -- Sets back the counter of an id, or all whose ids end like a family: these as they are next looked at, by
  -- whomever, and by the steps below.
  function does.reset(name, is_family)
    begin(command, {})
    if not may_remember_reset() then
      finish()
      return answer(FULL)
    end
    local counter, count = not is_family and get(name), 0
    if counter and set_back(counter) then
      count = 1
      change(name)
    end
    redis.call('HSET', key('z'), name, now)
    redis.call('PEXPIRE', key('z'), RECORD_KEPT_MS)
    -- Whatever is decided from here on was decided later than the reset.
    meta[RESET_AT], meta[CLOCK] = now, now + 1
    finish()
    local reply = answer(DONE)
    reply[6] = count
    return reply
  end

  -- Writes some counters down that were set back with their family. Says how many there were, and where to
  -- go on.
  function does.set_back(family, cursor, looked_at)
    begin(command, {})
    local scanned, count = redis.call('HSCAN', KEY, cursor, 'COUNT', looked_at), 0
    for place = 1, #scanned[2], 2 do
      local id = scanned[2][place]
      if id ~= 'm' and string.sub(id, -4) == family then
        counters[id] = counters[id] or scanned[2][place + 1]
        get(id)
        if is_set_back[id] and not is_changed[id] then
          count = count + 1
          change(id)
        end
      end
    end
    finish()
    local reply = answer(DONE)
    reply[6], reply[7] = count, scanned[1]
    return reply
  end

  -- Expires what is due; says whether that was all, and shows reservations whose floor has no event yet.
  function does.expire(limit)
    begin(command, {})
    local is_all = reservations.expire_due(EXPIRED_AT_ONCE)
    finish()
    local reply = answer(DONE)
    reply[6] = is_all and 1 or 0
    for _, id in ipairs(redis.call('ZRANGE', key('f'), 0, math.min(limit, SHOWN_FLOORS_MAX) - 1)) do
      local record = reservations.load(id)
      if record then reply[#reply + 1] = reservations.show(id, record) end
    end
    return reply
  end

  function does.open(openings, through, live_max)
    begin(command, {})
    -- Others have settled further: what was summed is less than what the counters have.
    if through < meta[SETTLED] then
      finish()
      local reply = answer(BEHIND)
      reply[6] = shown(meta[SETTLED])
      return reply
    end
    local places, is_begun = {}, {}
    for place, limit in ipairs(openings) do
      limit[4], limit[7] = integer(limit[4]), integer(limit[7])
      if limit[4] ~= 0 or get(limit[2]) or get(limit[3]) then
        places[place] = fallen(limit[2], limit[3], live_max)
      end
    end
    for place, limit in ipairs(openings) do
      local id = places[place]
      if id then
        local counter = get_to_take(id, limit)
        if counter[2] < through then counter[2] = through end
        book.open(counter, limit, limit[4], not is_begun[id], now)
        is_begun[id] = true
      end
    end
    finish()
    return answer(DONE)
  end

  -- Whether a budget of this family has been gone for long enough.
  local function is_retired(family, standing)
    if standing[family] then
      redis.call('HDEL', key('g'), family)
      return false
    end
    local gone_since = tonumber(redis.call('HGET', key('g'), family) or -1)
    if gone_since < 0 then
      gone_since = now
      redis.call('HSET', key('g'), family, now)
      redis.call('PEXPIRE', key('g'), RETIRED_KEPT_MS)
    end
    return now >= gone_since + RETIRED_MS_MIN
  end

  local function sweep_reservations(limit)
    for _ = 1, limit do
      local id = redis.call('ZRANGE', key('o'), 0, 0)[1]
      if not id then return end
      local record = reservations.load(id)
      if record and now < instant(record[EXPIRES_AT] + RECORD_MS) then return end
      redis.call('ZREM', key('o'), id)
      redis.call('HDEL', key('r'), id)
      redis.call('HDEL', key('b'), id)
    end
  end

  local function sweep_gone()
    local gone = redis.call('HGETALL', key('g'))
    for place = 1, #gone, 2 do
      if now >= tonumber(gone[place + 1]) + RETIRED_KEPT_MS then redis.call('HDEL', key('g'), gone[place]) end
    end
  end

  -- `families` are those of the budgets that there are, or false where nothing is known.
  function does.sweep(families, looked_at, dropped_max)
    begin(command, {})
    local standing = {}
    for _, family in ipairs(families or {}) do standing[family] = true end
    local scanned = redis.call('HSCAN', KEY, meta[SCAN], 'COUNT', looked_at)
    meta[SCAN] = scanned[1]
    for place = 1, #scanned[2], 2 do
      local id = scanned[2][place]
      local counter = id ~= 'm' and get(id)
      if counter then
        local drops = book.is_idle(counter, now)
        if not drops and counter[1] == BUDGET and families and book.holds_nothing(counter) then
          drops = is_retired(string.sub(id, -4), standing)
        end
        if drops then
          counters[id] = false
          change(id)
        end
      end
    end
    sweep_reservations(dropped_max)
    sweep_gone()
    finish()
    return answer(DONE)
  end

  -- Marks a workspace of which nothing is known as one whose budgets have to be counted.
  function does.doubt()
    begin(command, {})
    if meta[SEQUENCE] == 0 and loss == NOT_LOST then meta[UNSURE], loss = 1, NOT_REBUILT end
    finish()
    return answer(DONE)
  end

  -- Of the loss of this generation and number; one that came after it stays.
  function does.rebuilt(generation, number)
    begin(command, {})
    if meta[GENERATION] == generation and meta[UNSURE] == number then meta[UNSURE], loss = 0, NOT_LOST end
    finish()
    return answer(DONE)
  end

  function does.health()
    local raw = redis.call('HGET', KEY, 'm')
    if not raw then return { 0, 0, 0 } end
    local m = { cmsgpack.unpack(raw) }
    return { redis.call('HLEN', KEY) - 1, m[OVERFLOWED], m[FORGOTTEN] }
  end

  define('tend', function(asked)
    command = asked
    return does[command[5]](command[6], command[7], command[8], command[9])
  end)
end
