-- Leases: ends what a holder gives back, then lends what it asks for; see `server/core/src/lease.rs`.
--
-- The command: now, generation offered, generation and sequence seen, most live counters, what is given
-- back (id, mark, units closed, units unused), what is asked for (limits, whose need is what is asked and
-- whose take is the least).
do
  local DONE = 0
  local BUCKET_LEASE_LIFE_MS = 1000
  local LEASE_PARTS, STRICT_PARTS, DRIFT_PARTS, CLOCK_GRAIN_MS = 16, 128, 1000, 1

  local function lend(counter, limit, amount)
    if counter[1] ~= BUCKET then return take(counter, limit, amount, now) end
    bucket_settle(counter, limit[8], limit[9], now)
    counter[3] = bounded(counter[3], amount)
    if not counter[9] then
      counter[9], counter[10], counter[11] = slot_of(counter[7], GENERATION_MS), 0, 0
    end
    counter[10] = saturated(add(counter[10], amount))
    set_idle_at(counter, limit[8], limit[9])
    return counter[7], 0
  end

  -- Closes part of what was lent in the generation of an instant; says how much was open of it.
  local function close(counter, at, amount)
    if not counter[9] then return 0 end
    local generation, current, previous = slot_of(at, GENERATION_MS), counter[10], counter[11]
    local open = 0
    if generation == counter[9] then
      open = current
    elseif generation == counter[9] - 1 then
      open = previous
    end
    local closed = most(0, least(amount, open))
    if generation == counter[9] then
      keep_lent(counter, subtract(current, closed), previous)
    else
      keep_lent(counter, current, subtract(previous, closed))
    end
    return closed
  end

  local function end_lease(counter, mark, closed, unused)
    if counter[1] == BUCKET and mark[1] == BUCKET then
      local units, period = most(counter[6], 1), most(counter[5], 1)
      bucket_settle(counter, units, period, now)
      local ended = close(counter, mark[2], closed)
      counter[3] = bounded(counter[3], subtract(0, most(0, least(unused, ended))))
      set_idle_at(counter, units, period)
    else
      local freed = most(0, least(unused, most(closed, 0)))
      book.correct(counter, mark, closed, subtract(0, freed), now)
    end
  end

  local function life_ms(counter, limit)
    local kind = kind_of(limit)
    if kind == BUCKET then return BUCKET_LEASE_LIFE_MS end
    local first, second = place_of_charge(counter, limit, now)
    if kind == SLIDING then second = instant((first + 1) * step_of(limit[8])) end
    local left = since(second, now)
    return since(left - floor(left / DRIFT_PARTS), CLOCK_GRAIN_MS)
  end

  -- What may be lent of a limit with so much left.
  local function lent_of(size, left)
    local spare = subtract(left, (divide(size, STRICT_PARTS)))
    if less(spare, 0) then return 0 end
    return (divide(spare, LEASE_PARTS))
  end

  -- Adds to the answer: how the counter stands, then how much of it was lent where and for how long.
  local function serve(reply, limit, id)
    local counter = get_or_fresh(id, limit)
    if counter[1] ~= kind_of(limit) then counter = fresh(limit, now, 0) end
    local used, held, reset = used_of(counter, limit, now)
    local lasts, amount, first, second = life_ms(counter, limit), 0, 0, 0
    local left = subtract(limit[7], used)
    if limit[1] ~= BUDGET and not less(left, 0) then amount = least(limit[4], lent_of(limit[7], left)) end
    if lasts == 0 or less(amount, most(limit[5], 1)) then
      amount = 0
    else
      counter = get_to_take(id, limit)
      first, second = lend(counter, limit, amount)
      used, held, reset = used_of(counter, limit, now)
    end
    local figures = { shown(used), shown(held), reset, shown(amount), id, first, second, lasts }
    for place = 1, #figures do reply[#reply + 1] = figures[place] end
  end

  define('lease', function(command)
    local live_max, returns, requests = command[5], command[6], command[7]
    local ids = {}
    for place, limit in ipairs(requests) do
      ids[place] = limit[2]
      limit[4], limit[5], limit[7] = integer(limit[4]), integer(limit[5]), integer(limit[7])
    end
    begin(command, ids)
    expire_some()
    local places = fall(requests, live_max)
    for place, limit in ipairs(requests) do
      if places[place] ~= limit[2] then meta[OVERFLOWED] = meta[OVERFLOWED] + 1 end
    end
    for _, returned in ipairs(returns) do
      local counter = get(returned[1])
      if counter then
        end_lease(counter, returned[2], integer(returned[3]), integer(returned[4]))
        change(returned[1])
      end
    end
    local served = {}
    for place, limit in ipairs(requests) do serve(served, limit, places[place]) end
    finish()
    local reply = answer(DONE)
    for place = 1, #served do reply[#reply + 1] = served[place] end
    return reply
  end)
end
