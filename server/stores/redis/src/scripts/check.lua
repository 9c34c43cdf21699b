-- A check: all limits pass and all are taken, or nothing changes; see `server/core/src/decision.rs`.
--
-- The command: now, generation offered, generation and sequence seen, the caller's now, mode, most live
-- counters, most reservations, most ids of a bucket, charges, request (or false), reservation (or
-- false), whether only to recall.
do
  local CONSUME, PEEK, RESERVE = 0, 1, 2
  local ENFORCED, SHADOW = 0, 2
  local DECIDED, CONTENT_DIFFERS, UNDECIDED, FULL, TAKEN, CANCELLED = 0, 1, 2, 3, 4, 5
  -- One of so many new ids looks whether its bucket has too many. It is told by the first byte of the id:
  -- the bucket is told by the last ones, and all of its ids agree in these.
  local ID_PURGE_EVERY = 16

  -- What is asked for, and the counters on which its charges fall.
  local command, asked_at, mode
  local charges, request, reserves
  local places

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

  -- What must be free: charges on the same counter that stand in front come first.
  local function need_of(place)
    local need = charges[place][4]
    if need == 0 then return 0 end
    for other = 1, place - 1 do
      if places[other] == places[place] and less(0, charges[other][5]) then
        need = add(need, charges[other][5])
      end
    end
    return need
  end

  local function readings_of(with_need)
    local readings, allowed = {}, true
    for place = 1, #charges do
      local charge = charges[place]
      local counter = get_or_fresh(places[place], charge)
      local used, held, reset, wait = read(counter, charge, with_need and need_of(place) or 0, now)
      readings[place] = { used, held, reset, wait, -1, -1 }
      if wait ~= PASSES and charge[6] == ENFORCED then allowed = false end
    end
    return readings, allowed
  end

  -- Notes that one more attempt was answered by a decision. Of too many it remembers none, and stands.
  local function adopt(content, expires_at, id, attempts, asked, life_ms, taken_at, named)
    if request[4] == '' or not attempts or attempts == '' then return end
    if place_of_attempt(attempts, request[4]) then return end
    attempts = attempts .. request[4]
    if #attempts > ATTEMPTS_MAX * ATTEMPT_BYTES then attempts, named = '', nil end
    local record = cmsgpack.pack(content, expires_at, id, attempts, asked, life_ms, taken_at, named)
    redis.call('HSET', IDS_KEY, request[1], record)
  end

  -- The decision that was taken before for the same id.
  local function replay(known)
    local content, expires_at, id, attempts, asked, life_ms, taken_at, named = cmsgpack.unpack(known)
    if expires_at <= now then return nil end
    local reservation = {}
    if id ~= '' then
      local record = reservations.load(id)
      if not record or record[STATE] > SETTLED_STATE then return nil end
      reservation = { id, record[EXPIRES_AT], record[COST] or '' }
    end
    if content ~= request[2] then
      finish()
      return answer(CONTENT_DIFFERS)
    end
    adopt(content, expires_at, id, attempts, asked, life_ms, taken_at, named)
    return decided(true, true, reservation, (readings_of(false)))
  end

  -- Drops ids whose time is over; where too many stand, those that end first, which are counted.
  local function purge_ids(ids_max)
    local all, standing = redis.call('HGETALL', IDS_KEY), {}
    for place = 1, #all, 2 do
      local expires_at
      if all[place] ~= KEPT_UNTIL then
        local _, until_when = cmsgpack.unpack(all[place + 1])
        expires_at = until_when
      end
      if expires_at and expires_at <= now then
        redis.call('HDEL', IDS_KEY, all[place])
      elseif expires_at then
        standing[#standing + 1] = { expires_at, all[place] }
      end
    end
    if #standing < ids_max then return end
    table.sort(standing, function(a, b) return a[1] < b[1] end)
    for place = 1, #standing - floor(ids_max / 2) do
      redis.call('HDEL', IDS_KEY, standing[place][2])
      meta[FORGOTTEN] = meta[FORGOTTEN] + 1
    end
  end

  -- Where everything was taken, or nothing where it was taken in the usual places.
  local function places_of(readings)
    local all, usual = {}, true
    for place = 1, #charges do
      local charge, reading = charges[place], readings[place]
      local first, second = usual_place(charge, now)
      local was_taken = charge[5] ~= 0 and reading[5] >= 0
      all[place] = was_taken and { places[place], reading[5], reading[6] }
      if charge[5] ~= 0 then
        usual = usual and was_taken and places[place] == charge[2]
        usual = usual and reading[5] == first and reading[6] == second
      end
    end
    return usual and '' or all
  end

  local function remember(id, readings)
    local expires_at = in_workspace_time(request[3])
    if string.byte(request[1], 1) % ID_PURGE_EVERY == 0 and redis.call('HLEN', IDS_KEY) >= command[9] then
      purge_ids(command[9])
    end
    local record
    if request[4] == '' then
      record = cmsgpack.pack(request[2], expires_at, id)
    elseif id ~= '' then
      record = cmsgpack.pack(request[2], expires_at, id, request[4])
    else
      local life_ms, taken_at = expires_at - now, places_of(readings)
      record = cmsgpack.pack(request[2], expires_at, id, request[4], request[5], life_ms, taken_at)
    end
    afterwards(function() keep_id(request[1], record, expires_at, command[1]) end)
  end

  local function count_overflow()
    for place = 1, #charges do
      if places[place] ~= charges[place][2] then meta[OVERFLOWED] = meta[OVERFLOWED] + 1 end
    end
  end

  -- Of a call that is denied, only limits that count denied amounts take theirs.
  local function is_taken(charge, reading, allowed)
    if charge[12] and mode == CONSUME then return true end
    return allowed and (charge[6] ~= SHADOW or reading[4] == PASSES)
  end

  local function take_all(readings, allowed)
    for place = 1, #charges do
      local charge, reading = charges[place], readings[place]
      local taken = is_taken(charge, reading, allowed)
      local from_nothing = less(charge[5], 0) and not get(places[place])
      if taken and charge[5] ~= 0 and not from_nothing then
        local counter = get_to_take(places[place], charge)
        reading[5], reading[6] = take(counter, charge, charge[5], now)
        if mode == RESERVE and counter[1] == BUCKET then lowest.begin(counter) end
        reading[1], reading[2], reading[3] = used_of(counter, charge, now)
      elseif taken and mode == RESERVE and not from_nothing then
        local counter = get_or_fresh(places[place], charge)
        if counter[1] ~= kind_of(charge) then counter = fresh(charge, now, 0) end
        reading[5], reading[6] = place_of_charge(counter, charge, now)
      end
    end
  end

  local function insert(readings)
    local captured, expires_at = {}, in_workspace_time(reserves[2])
    for place = 1, #charges do
      local charge, reading = charges[place], readings[place]
      if reading[5] >= 0 then
        captured[#captured + 1] =
          { places[place], charge[11], charge[5], false, mark_of(charge, reading[5], reading[6]) }
      end
    end
    local floor_left, cost = integer(reserves[3]), reserves[4]
    local record = { OPEN, now, expires_at, floor_left, 0, reserves[5], reserves[6], cost, captured }
    record[REQUEST] = request and request[1] or ''
    reservations.save(reserves[1], record)
    afterwards(function()
      redis.call('HSET', key('b'), reserves[1], reserves[7])
      redis.call('PEXPIRE', key('r'), RECORD_KEPT_MS)
      redis.call('PEXPIRE', key('b'), RECORD_KEPT_MS)
    end)
    reservations.enter(record, reserves[1])
    return { reserves[1], expires_at, cost or '' }
  end

  local function failed(code)
    finish()
    return answer(code)
  end

  define('check', function(asked)
    command = asked
    asked_at, mode = command[5], command[6]
    charges, request, reserves = command[10], command[11], command[12]
    local ids = {}
    for place = 1, #charges do
      local charge = charges[place]
      ids[place] = charge[2]
      charge[4], charge[5], charge[7] = integer(charge[4]), integer(charge[5]), integer(charge[7])
    end
    begin(command, ids)
    expire_some()
    places = fall(charges, command[7])

    if request then
      local known, is_cancelled = recalled(request)
      if is_cancelled then return failed(CANCELLED) end
      local again = known and replay(known)
      if again then return again end
    end
    if command[13] then return failed(UNDECIDED) end
    if mode == RESERVE and redis.call('HEXISTS', key('r'), reserves[1]) == 1 then return failed(TAKEN) end
    local readings, allowed = readings_of(true)
    local reservation = {}
    if allowed and mode == RESERVE and not reservations.make_room(command[8]) then return failed(FULL) end
    if mode ~= PEEK then take_all(readings, allowed) end
    if allowed and mode ~= PEEK then
      if mode == RESERVE then reservation = insert(readings) end
      if request then remember(reservation[1] or '', readings) end
    end
    if mode ~= PEEK then count_overflow() end
    return decided(allowed, false, reservation, readings)
  end)
end
