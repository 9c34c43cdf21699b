-- Undoes an attempt, whether it has arrived or will; see `server/stores/memory/src/workspace/cancel.rs`.
--
-- The command: now, generation offered, generation and sequence seen, the caller's now, charges, request.
do
  local UNDONE, TOO_LATE, STANDS = 0, 1, 2

  local charges, request

  local function take_back(decided_at, places)
    for place = 1, #charges do
      local charge = charges[place]
      local amount = integer(charge[5])
      local id, first, second = charge[2], usual_place(charge, decided_at)
      if places ~= '' then
        local taken = places[place]
        id = taken and taken[1]
        if taken then first, second = taken[2], taken[3] end
      end
      local stands = id and amount ~= 0 and not was_reset(id, decided_at)
      local counter = stands and get(id)
      if counter then
        change(id)
        book.correct(counter, mark_of(charge, first, second), amount, subtract(0, amount), now)
      end
    end
  end

  -- Releases a reservation that nobody was told of; one that is over stays as it is.
  local function release(id)
    local record = reservations.load(id)
    if not record or record[STATE] ~= OPEN then return false end
    local before = reservations.stage(record)
    if record[EXPIRES_AT] <= now then reservations.expire(record) else reservations.release(record) end
    reservations.moved(record, id, before)
    return true
  end

  local function is_open(id)
    local record = reservations.load(id)
    return record and record[STATE] == OPEN
  end

  -- Whether a decision whose time is over took for good what this attempt was answered with: one that
  -- repeated it late is in its own time still, which is as long.
  local function is_left_taken(content, expires_at, id, attempts, life_ms)
    if content ~= request[2] or id ~= '' or not attempts or expires_at + life_ms <= now then return false end
    return attempts == '' or place_of_attempt(attempts, request[4]) ~= nil
  end

  -- Takes the attempt from the decision that stands for its id, if one does; says what became of it.
  local function leave(known)
    local content, expires_at, id, attempts, asked, life_ms, places, named = cmsgpack.unpack(known)
    if expires_at <= now then
      return is_left_taken(content, expires_at, id, attempts, life_ms) and TOO_LATE or nil
    end
    if content ~= request[2] then return UNDONE end
    -- Too many were answered to know of each, or the last was cancelled and nobody knew what it took. What
    -- a reservation has given back by now does not stand.
    if attempts == '' then return (id == '' or is_open(id)) and STANDS or UNDONE end
    local place = attempts and place_of_attempt(attempts, request[4])
    if not place then return UNDONE end
    attempts = string.sub(attempts, 1, place - 1) .. string.sub(attempts, place + ATTEMPT_BYTES)
    local is_last, names, is_undone, outcome = attempts == '', asked == request[5], false, UNDONE
    if id ~= '' then
      is_undone = is_last and release(id)
    elseif not is_last then
      -- The last one may be a recall, which names no amounts.
      if names then named = cmsgpack.pack(charges) end
    elseif names or named then
      if not names then charges = cmsgpack.unpack(named) end
      take_back(expires_at - life_ms, places)
      is_undone = true
    else
      -- Under other limits than at the decision nobody knows what it took.
      outcome = STANDS
    end
    if is_undone then
      afterwards(function() redis.call('HDEL', IDS_KEY, request[1]) end)
    else
      local record = cmsgpack.pack(content, expires_at, id, attempts, asked, life_ms, places, named)
      redis.call('HSET', IDS_KEY, request[1], record)
    end
    return outcome
  end

  define('cancel', function(command)
    charges, request = command[6], command[7]
    begin(command, {})
    local known = recalled(request)
    local until_when = instant(request[3] + since(now, command[5]))
    keep_id(request[1] .. request[4], cmsgpack.pack('', until_when, ''), until_when, command[1])
    local outcome = known and leave(known)
    finish()
    return answer(outcome or request[3] <= now and TOO_LATE or UNDONE)
  end)
end
