-- Settling logged records in the order of their positions; see `workspace/settle.rs` of the counters in
-- memory, which this mirrors.
--
-- The command: now, generation offered, generation and sequence seen, most live counters, records. A
-- record: position, accounted at, cost, reservation (or false), amounts by unit, charges. A
-- reservation: id, is final, refunds, standing, budgets captured.
do
  -- How a reservation stood when its record was taken: besides these, unknown (1) and ended (3).
  local KNOWN, ELSEWHERE = 0, 2
  local SETTLED_CODE = 0

  local live_max
  -- What one record is settled with.
  local position, accounted_at, cost, charged

  local function charge(limit)
    local own, amount = limit[2], limit[4]
    local id = fallen(own, limit[3], live_max)
    local known = get(id)
    if not known and amount == 0 then return end
    local counter = get_or_insert(id, limit, now)
    if counter[2] < position then
      if counter[1] ~= kind_of(limit) then
        counter = fresh(limit, now, counter[2])
        counters[id] = counter
      end
      book.charge(counter, limit, amount, accounted_at, now)
      counter[2] = position
    end
    if id ~= own then meta[OVERFLOWED] = meta[OVERFLOWED] + 1 end
  end

  local function charge_all()
    for _, limit in ipairs(charged) do charge(limit) end
  end

  -- The counter to correct. One that was only tested may never have been made, and one that ran dry may
  -- have been forgotten since.
  local function entry(captured)
    local mark = captured[5]
    if book.is_over(mark, now) or mark[1] == CONCURRENCY then
      local counter = get(captured[1])
      if counter then change(captured[1]) end
      return counter
    end
    local limit, at = book.place_of(mark)
    return get_or_insert(captured[1], limit, at)
  end

  -- Amounts are never negative, and a sum of them stays full when it is full.
  local function more_used(captured, amount)
    captured[4] = saturated(add(captured[4] or 0, amount))
  end

  local function freed_of(captured, is_final)
    if is_final then return captured[3] end
    return least(captured[3], most(cost, 0))
  end

  local function settle_units(captured, counter, settles, amounts)
    local amount = amounts[captured[2]]
    if captured[2] == 'cost' then amount = most(cost, 0) end
    if amount then more_used(captured, amount) end
    if not captured[4] then return end
    local delta = subtract(captured[4], captured[3])
    if less(0, delta) or (settles[2] and settles[3]) then
      book.correct(counter, captured[5], captured[3], delta, now)
      captured[3] = captured[4]
    end
  end

  local function settle_captured(captured, settles, amounts)
    local counter = entry(captured)
    if not counter or counter[2] >= position then return end
    local mark = captured[5]
    if counter[1] == BUDGET and mark[1] == BUDGET then
      budget_roll(counter, mark[2], mark[3])
      more_used(captured, most(cost, 0))
      local freed = freed_of(captured, settles[2])
      book.settle_budget(counter, mark[2], freed, cost)
      captured[3] = subtract(captured[3], freed)
    elseif mark[1] == CONCURRENCY then
      -- It is held until the call is over, and then whole, whatever the call has used.
      if settles[2] then
        book.correct(counter, mark, captured[3], subtract(0, captured[3]), now)
        captured[3] = 0
      end
    else
      settle_units(captured, counter, settles, amounts)
    end
    counter[2] = position
  end

  -- Frees held money as a report does, and leaves the counter's position where it was.
  local function free(captured, settles)
    more_used(captured, most(cost, 0))
    local freed = freed_of(captured, settles[2])
    local counter = get(captured[1])
    if counter then
      change(captured[1])
      book.correct(counter, captured[5], captured[3], subtract(0, freed), now)
    end
    captured[3] = subtract(captured[3], freed)
  end

  local function take_in(record, settles)
    record[INCLUDED] = position
    local left = most(subtract(record[FLOOR], most(cost, 0)), 0)
    record[FLOOR] = settles[2] and 0 or left
    if settles[2] and record[STATE] == OPEN then record[STATE] = SETTLED_STATE end
  end

  local function settle_reserved(record, settles, amounts)
    local before, was_captured = reservations.stage(record), {}
    for _, captured in ipairs(record[CAPTURED]) do
      settle_captured(captured, settles, amounts)
      was_captured[captured[1]] = true
    end
    if record[INCLUDED] < position then take_in(record, settles) end
    reservations.moved(record, settles[1], before)
    for _, limit in ipairs(charged) do
      if limit[1] == BUDGET and not was_captured[limit[2]] and not was_captured[limit[3]] then charge(limit) end
    end
  end

  local function takes_reports(record)
    return record[STATE] < RELEASED or (record[STATE] == EXPIRED and less(0, record[FLOOR]))
  end

  -- Another process took the record and did not know the reservation.
  local function settle_from_elsewhere(record, settles, amounts)
    if not takes_reports(record) then return charge_all() end
    local before = reservations.stage(record)
    if record[INCLUDED] < position then
      for _, captured in ipairs(record[CAPTURED]) do
        if reservations.is_budget(captured) then
          free(captured, settles)
        else
          settle_captured(captured, settles, amounts)
        end
      end
      take_in(record, settles)
    end
    reservations.moved(record, settles[1], before)
    for _, limit in ipairs(charged) do
      if limit[1] == BUDGET then charge(limit) end
    end
  end

  -- The reservation stood when the record was taken, and is gone since.
  local function charge_forgotten(settles)
    local matches = {}
    for _, limit in ipairs(charged) do
      matches[limit[2]], matches[limit[3]] = true, true
      if limit[1] == BUDGET then charge(limit) end
    end
    for _, id in ipairs(settles[5]) do
      local counter = get(id)
      if not matches[id] and counter and counter[1] == BUDGET and counter[2] < position then
        change(id)
        book.spend_at(counter, accounted_at, cost)
        counter[2] = position
      end
    end
  end

  local function settle_one(settles, amounts)
    local record = settles and reservations.load(settles[1])
    if not settles then
      charge_all()
    elseif settles[4] == KNOWN and record then
      settle_reserved(record, settles, amounts)
    elseif settles[4] == KNOWN then
      charge_forgotten(settles)
    elseif settles[4] == ELSEWHERE and record then
      settle_from_elsewhere(record, settles, amounts)
    else
      charge_all()
    end
  end

  define('settle', function(command)
    local records = command[6]
    live_max = command[5]
    local ids, named = {}, {}
    for _, record in ipairs(records) do
      for _, limit in ipairs(record[6]) do
        limit[4], limit[7] = integer(limit[4]), integer(limit[7])
        if not named[limit[2]] then
          named[limit[2]], ids[#ids + 1] = true, limit[2]
        end
      end
    end
    begin(command, ids)
    -- Of what is settled already, not even the time is noted.
    if loss == NOT_LOST and records[#records][1] <= meta[SETTLED] then return answer(SETTLED_CODE) end
    for _, record in ipairs(records) do
      if record[1] > meta[SETTLED] then
        position, accounted_at, cost, charged = record[1], record[2], integer(record[3]), record[6]
        local amounts = {}
        for _, of_unit in ipairs(record[5]) do amounts[of_unit[1]] = integer(of_unit[2]) end
        settle_one(record[4], amounts)
        meta[SETTLED] = position
        expire_some()
      end
    end
    finish()
    return answer(SETTLED_CODE)
  end)
end
