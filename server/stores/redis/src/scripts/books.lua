-- What settlements, releases and expiries do to counters.

local book = {}
do
  -- For how long after its period records of it are accepted.
  local OCCURRED_BEFORE_MS_MAX = 3024000000

  local function budget_begun(counter, start)
    if counter[3] == start then return 5 end
    if counter[7] == start then return 9 end
    return nil
  end

  -- Charges what was used at an instant, never asking.
  function book.charge(counter, limit, amount, accounted_at, now)
    local kind = counter[1]
    if kind == BUCKET then
      local size = multiply(most(limit[7], amount), limit[9])
      local given_back = multiply(limit[8], since(now, accounted_at))
      if less(given_back, size) then
        bucket_take(counter, limit[8], limit[9], amount, math.min(accounted_at, now))
      end
    elseif kind == WINDOW then
      local start, finish = span(limit, now)
      if start > counter[3] then counter[3], counter[4], counter[5] = start, finish, 0 end
      if accounted_at >= counter[3] then counter[5] = bounded(counter[5], amount) end
    elseif kind == SLIDING then
      local current = slide(counter, limit[8], now)
      local slot = math.min(slot_of(accounted_at, counter[4]), current)
      if slot + SUB_WINDOWS >= current then sliding_add(counter, slot, amount) end
    elseif kind == BUDGET then
      budget_roll(counter, span(limit, now))
      if limit[9] == 0 or accounted_at >= counter[3] then
        counter[5] = add(counter[5], amount)
      elseif counter[7] and counter[7] <= accounted_at and accounted_at < counter[8] then
        counter[9] = add(counter[9], amount)
      end
    end
  end

  -- Of an amount taken so long ago, what cannot have been given back: in parts of a unit, `period` of which are one.
  local function ticks_left(amount, units, period, elapsed_ms)
    return most(subtract(multiply(amount, period), multiply(units, elapsed_ms)), 0)
  end

  -- A mark is an array: kind, and up to three numbers of its kind.
  local function correct_bucket(counter, mark, taken, delta, now)
    local at, units, period = mark[2], counter[6], counter[5]
    if at > counter[7] then units, period = mark[3], mark[4] end
    if not less(delta, 0) then
      -- A bucket that was forgotten has what was taken in it again.
      if at > counter[7] and less(0, delta) then delta = add(delta, taken) end
      bucket_take(counter, units, period, delta, at)
      return
    end
    local elapsed_ms = since(math.max(now, counter[7]), at)
    local left = least(
      (divide(multiply(ticks_left(taken, mark[3], mark[4], elapsed_ms), period), mark[4])),
      ticks_left(taken, units, period, elapsed_ms)
    )
    if at <= counter[7] then left = most(left, (lowest.since(counter, at))) end
    local freed = least(left, multiply(subtract(0, delta), period))
    bucket_settle(counter, units, period, at)
    local ticks = subtract(add(multiply(counter[3], period), counter[4]), freed)
    counter[3], counter[4] = divide(most(ticks, 0), period)
    lowest.free(counter, at, freed)
    set_idle_at(counter, units, period)
  end

  -- Corrects an amount taken at a mark, where that still counts.
  function book.correct(counter, mark, taken, delta, now)
    if counter[1] ~= mark[1] then return end
    local kind = counter[1]
    if kind == BUCKET then
      correct_bucket(counter, mark, taken, delta, now)
    elseif kind == WINDOW then
      if mark[2] > counter[3] then counter[3], counter[4], counter[5] = mark[2], mark[3], 0 end
      if mark[2] == counter[3] then counter[5] = bounded(counter[5], delta) end
    elseif kind == SLIDING then
      local newest = #counter > 4 and counter[#counter - 1] or mark[2]
      if mark[2] + SUB_WINDOWS >= newest then sliding_add(counter, mark[2], delta) end
    elseif kind == CONCURRENCY then
      counter[3] = bounded(counter[3], delta)
    else
      local spent = budget_begun(counter, mark[2])
      if spent then counter[spent + 1] = most(add(counter[spent + 1], delta), 0) end
    end
  end

  -- Turns what the period of a mark holds into a cost.
  function book.settle_budget(counter, start, freed, cost)
    local spent = budget_begun(counter, start)
    if not spent then return end
    counter[spent + 1] = most(subtract(counter[spent + 1], freed), 0)
    counter[spent] = add(counter[spent], cost)
  end

  -- Spends in the period that holds an instant, as far as the counter knows one.
  function book.spend_at(counter, at, cost)
    for start = 3, 7, 4 do
      local begins, ends = counter[start], counter[start + 1]
      if begins and (ends == 0 or (begins <= at and at < ends)) then
        book.settle_budget(counter, begins, 0, cost)
        return
      end
    end
  end

  -- Sets what a budget has spent in the period of an opening, or adds to what was just set.
  function book.open(counter, limit, amount, is_first, now)
    local at = limit[9] > 0 and limit[8] or now
    if is_first then
      book.charge(counter, limit, 0, at, now)
      if counter[3] <= at then
        counter[5] = 0
      elseif counter[7] and counter[7] <= at then
        counter[9] = 0
      end
    end
    book.charge(counter, limit, amount, at, now)
  end

  -- The limit of nothing, and the instant, of which the counter begins that a mark stands in.
  function book.place_of(mark)
    local kind = mark[1]
    if kind == BUCKET then return { BUCKET, '', '', 0, 0, 0, 0, mark[3], mark[4] }, mark[2] end
    if kind == SLIDING then
      local start = instant(multiply(mark[2], step_of(mark[3])))
      return { SLIDING, '', '', 0, 0, 0, 0, mark[3] }, start
    end
    if kind == CONCURRENCY then return { CONCURRENCY, '', '', 0, 0, 0, 0 }, 0 end
    local limit = kind == WINDOW and CALENDAR or BUDGET
    return { limit, '', '', 0, 0, 0, 0, mark[2], mark[3], mark[3] }, mark[2]
  end

  -- Whether what stands at a mark counts no more.
  function book.is_over(mark, now)
    if mark[1] == WINDOW then return now >= mark[3] end
    if mark[1] == SLIDING then return now >= leaves_at(mark[2], step_of(mark[3])) end
    return false
  end

  function book.holds_nothing(counter)
    return counter[6] == 0 and (counter[10] or 0) == 0
  end

  -- Whether a counter counts like a fresh one from now on.
  function book.is_idle(counter, now)
    local kind = counter[1]
    if kind == BUCKET then return now >= counter[8] end
    if kind == WINDOW then return counter[5] == 0 or now >= counter[4] end
    if kind == SLIDING then return #counter < 5 or now >= leaves_at(counter[#counter - 1], counter[4]) end
    if kind == CONCURRENCY then return counter[3] == 0 and (counter[4] == 0 or now >= counter[5]) end
    local spent_nothing = counter[5] == 0 and (counter[9] or 0) == 0
    local long_over = counter[4] > 0 and now >= instant(counter[4] + OCCURRED_BEFORE_MS_MAX)
    return book.holds_nothing(counter) and (spent_nothing or long_over)
  end
end
