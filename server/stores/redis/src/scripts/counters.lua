-- The counters, as the core reads and changes them; see `server/core/src/counter`.
--
-- A limit is an array: kind, own id, overflow id, need, take, enforcement, size, and three numbers of
-- its kind; a charge has its unit behind them, and whether it counts denied amounts. A counter is an array:
-- kind, position included, and what its kind keeps.

local BUCKET, WINDOW, SLIDING, BUDGET, CALENDAR, CONCURRENCY = 1, 2, 3, 4, 5, 6
local MILLIS_MAX = 253402128000000
local SUB_WINDOWS = 60
-- After memory was lost, windows up to this long count as used up until they have passed.
local LOST_WINDOW_MS_MAX = 3600000
local lost_at = 0
-- Until the budgets of a workspace that was lost are counted again, they deny: for a moment, and not until
-- their period ends.
local is_unsure = false
local UNSURE_WAIT_MS = 1000

-- An instant, within the years 1970 to 9999.
local function instant(ms)
  if type(ms) == 'table' then return ms.negative and 0 or MILLIS_MAX end
  if ms < 0 then return 0 end
  return ms < MILLIS_MAX and ms or MILLIS_MAX
end

local function since(later, earlier)
  return later > earlier and later - earlier or 0
end

local function kind_of(limit)
  local kind = limit[1]
  return kind == CALENDAR and WINDOW or kind
end

-- The window of an instant under a fixed or calendar limit or a budget; zeros for a prepaid one.
local function span(limit, now)
  local kind = limit[1]
  if kind == WINDOW then
    local start = now - fmod(now, limit[8])
    return start, instant(start + limit[8])
  end
  if kind == BUDGET and limit[9] == 0 then return 0, 0 end
  if now < limit[9] then return limit[8], limit[9] end
  return limit[9], limit[10]
end

local function step_of(window_ms)
  local step = floor((window_ms + SUB_WINDOWS - 1) / SUB_WINDOWS)
  return step > 1 and step or 1
end

local function slot_of(at, step)
  return (at - fmod(at, step)) / step
end

local function leaves_at(slot, step)
  return instant((slot + SUB_WINDOWS + 1) * step)
end

local function fresh(limit, now, included)
  local kind = limit[1]
  if kind == BUCKET then return { BUCKET, included, 0, 0, 1, 1, 0, 0 } end
  if kind == SLIDING then return { SLIDING, included, 0, step_of(limit[8]) } end
  if kind == CONCURRENCY then return { CONCURRENCY, included, 0, 0, 0 } end
  local start, finish = span(limit, now)
  if kind == BUDGET then return { BUDGET, included, start, finish, 0, 0 } end
  return { WINDOW, included, start, finish, 0 }
end

-- A bucket of which something is lent has three numbers more: the generation in which it was, what was
-- lent in it, and what in the one before. They are floors under what is used; see
-- `server/core/src/counter/lent.rs`. Beside its numbers it has `lows`: how low it has stood since some
-- instants, by pairs of instant and parts of a unit; see `server/core/src/counter/lows.rs`.
local GENERATION_MS = 1100

-- Both floors, each with the instant at which it ends.
local function floors(counter)
  local first = instant((counter[9] + 1) * GENERATION_MS)
  local second = instant((counter[9] + 2) * GENERATION_MS)
  return first, add(counter[10], counter[11]), second, counter[10]
end

-- What is left after so long, down to a floor of whole units.
local function refilled(ticks, units, period, elapsed_ms, lowest)
  local left = subtract(ticks, multiply(units, elapsed_ms))
  return most(left, least(multiply(lowest, period), ticks))
end

-- What is used of a bucket, in parts of a unit.
local function bucket_ticks(counter, units, period, now)
  local whole, part, elapsed_ms = counter[3], counter[4], now - counter[7]
  -- What is usual: nothing is lent, the period is as it was, and everything is small.
  if counter[5] == period and not counter[9] and type(whole) == 'number' and type(units) == 'number' then
    local ticks, gone = whole * period + part, elapsed_ms > 0 and units * elapsed_ms or 0
    if ticks < SAFE and gone < SAFE then return ticks > gone and ticks - gone or 0 end
  end
  if counter[5] ~= period then part = divide_up(multiply(part, period), counter[5]) end
  local ticks, from = add(multiply(counter[3], period), part), counter[7]
  if counter[9] then
    local first, both, second, current = floors(counter)
    ticks = refilled(ticks, units, period, since(math.min(first, now), from), both)
    from = math.max(from, first)
    ticks = refilled(ticks, units, period, since(math.min(second, now), from), current)
    from = math.max(from, second)
  end
  local left = subtract(ticks, multiply(units, since(now, from)))
  if less(left, 0) then return 0 end
  return left
end

local function ms_for(ticks, units)
  if type(ticks) == 'number' and type(units) == 'number' then
    if ticks <= 0 then return 0 end
    local rest = fmod(ticks, units)
    return (ticks - rest) / units + (rest > 0 and 1 or 0)
  end
  if less(ticks, 0) then return 0 end
  return divide_up(ticks, units)
end

-- How long after `now` no more than so many ticks are used.
local function bucket_wait(counter, ticks_max, units, period, now)
  local from = math.max(now, counter[7])
  local ticks = bucket_ticks(counter, units, period, from)
  if counter[9] then
    local first, both, second, current = floors(counter)
    for segment = 1, 2 do
      local till, lowest = first, both
      if segment == 2 then till, lowest = second, current end
      local ms = ms_for(subtract(ticks, ticks_max), units)
      if not less(ticks_max, multiply(lowest, period)) and not less(since(till, from), ms) then
        return add(since(from, now), ms)
      end
      ticks = refilled(ticks, units, period, since(till, from), lowest)
      from = math.max(from, till)
    end
  end
  return add(since(from, now), ms_for(subtract(ticks, ticks_max), units))
end

-- What is lent, as it stands in the generation of an instant.
local function keep_lent(counter, current, previous)
  if counter[9] and current == 0 and previous == 0 then
    counter[11], counter[10], counter[9] = nil, nil, nil
  elseif counter[9] then
    counter[10], counter[11] = current, previous
  end
end

local function roll_lent(counter, at)
  if not counter[9] then return end
  local generation, current = slot_of(at, GENERATION_MS), counter[10]
  if generation <= counter[9] then return end
  local passed = generation - counter[9]
  counter[9] = generation
  keep_lent(counter, 0, passed == 1 and current or 0)
end

-- The lowest levels of buckets.
local lowest = {}
do
  local LOWS_MAX = 16
  -- Those that every bucket has, and three more where something is lent.
  local NUMBERS, NUMBERS_LENT = 8, 11

  -- In parts of a unit.
  local function ticks_beside_lent(counter)
    local used = counter[3]
    if counter[9] then used = subtract(used, saturated(add(counter[10], counter[11]))) end
    return add(multiply(used, counter[5]), counter[4])
  end

  -- Changes each, and drops those that say nothing then, or the same as an older one.
  local function change(counter, ticks_of)
    local lows, kept, before = counter.lows, {}, 0
    for place = 1, #lows, 2 do
      local ticks = ticks_of(lows[place], lows[place + 1])
      if less(before, ticks) then
        kept[#kept + 1], kept[#kept + 2] = lows[place], ticks
        before = ticks
      end
    end
    counter.lows = kept[1] and kept
  end

  -- The one whose neighbours differ least; what was reserved last needs its own.
  local function forget_one(lows)
    local before, smallest, found = 0, nil, nil
    for place = 1, 2 * LOWS_MAX, 2 do
      local between = subtract(lows[place + 3], before)
      if not smallest or less(between, smallest) then smallest, found = between, place end
      before = lows[place + 1]
    end
    table.remove(lows, found)
    table.remove(lows, found)
  end

  -- Takes in how the bucket stands.
  function lowest.note(counter)
    local lows = counter.lows
    if not lows then return end
    local ticks = ticks_beside_lent(counter)
    -- The newest is the highest.
    if less(ticks, lows[#lows]) then
      change(counter, function(_, low) return least(low, ticks) end)
    end
  end

  -- Parts of a unit are others from now on.
  function lowest.rescale(counter, period)
    if not counter.lows or counter[5] == period then return end
    change(counter, function(_, low) return (divide(multiply(low, period), counter[5])) end)
  end

  -- What was used at the least since an instant, as far as that is known, and from when on.
  function lowest.since(counter, at)
    local lows = counter.lows
    if not lows then return 0, 0 end
    for place = #lows - 1, 1, -2 do
      if lows[place] <= at then return lows[place + 1], lows[place] end
    end
    return 0, 0
  end

  -- Begins one with what was just taken.
  function lowest.begin(counter)
    local at, ticks, lows = counter[7], ticks_beside_lent(counter), counter.lows or {}
    while lows[1] and lows[#lows - 1] >= at do lows[#lows], lows[#lows - 1] = nil, nil end
    if less(lows[#lows] or 0, ticks) then lows[#lows + 1], lows[#lows + 2] = at, ticks end
    if #lows > 2 * LOWS_MAX then forget_one(lows) end
    counter.lows = lows[1] and lows
  end

  -- So much was freed of what had been taken at an instant.
  function lowest.free(counter, at, freed)
    if not counter.lows then return end
    local known, begun = lowest.since(counter, at)
    local left = subtract(known, freed)
    change(counter, function(since_when, low)
      if since_when < begun then return least(low, left) end
      return subtract(low, freed)
    end)
  end

  -- They are written behind the bucket's numbers; with all pairs these are as odd as without.
  function lowest.set_apart(counter)
    local numbers = #counter % 2 == 0 and NUMBERS or NUMBERS_LENT
    if #counter <= numbers then return end
    counter.lows = { unpack(counter, numbers + 1) }
    for place = #counter, numbers + 1, -1 do counter[place] = nil end
  end
end

local function bucket_settle(counter, units, period, now)
  local whole, part = divide(bucket_ticks(counter, units, period, now), period)
  counter[3], counter[4] = saturated(whole), part
  lowest.rescale(counter, period)
  counter[5], counter[6] = period, units
  if now > counter[7] then counter[7] = now end
  -- Before anything that was lent is over: it was the floor until then.
  lowest.note(counter)
  roll_lent(counter, counter[7])
end

local function set_idle_at(counter, units, period)
  counter[8] = instant(add(counter[7], bucket_wait(counter, 0, units, period, counter[7])))
end

local function bucket_take(counter, units, period, amount, now)
  bucket_settle(counter, units, period, now)
  counter[3] = bounded(counter[3], amount)
  lowest.note(counter)
  set_idle_at(counter, units, period)
end

-- The slots that have left: the place of the first that counts, and the units before it.
local function slid(counter, current)
  local place, gone = 5, 0
  while counter[place] and counter[place] + SUB_WINDOWS < current do
    gone, place = add(gone, counter[place + 1]), place + 2
  end
  return place, gone
end

local function sliding_slot(counter, step, now)
  local current, newest = slot_of(now, step), counter[#counter - 1]
  if #counter > 4 and newest > current then return newest end
  return current
end

local function slide(counter, window_ms, now)
  counter[4] = step_of(window_ms)
  local place, gone = slid(counter, slot_of(now, counter[4]))
  local shift = place - 5
  if shift > 0 then
    local last = #counter
    for at = 5, last do counter[at] = counter[at + shift] end
    counter[3] = subtract(counter[3], gone)
  end
  return sliding_slot(counter, counter[4], now)
end

local function sliding_add(counter, slot, delta)
  if delta == 0 then return end
  local place = #counter + 1
  while place > 5 and counter[place - 2] >= slot do place = place - 2 end
  if counter[place] ~= slot then
    table.insert(counter, place, 0)
    table.insert(counter, place, slot)
  end
  local before = counter[place + 1]
  local room = delta
  if type(counter[3]) == 'table' or type(delta) == 'table' then
    room = least(delta, subtract(big.most, counter[3]))
  end
  local after = bounded(before, room)
  counter[3] = add(counter[3], subtract(after, before))
  counter[place + 1] = after
  if after == 0 then
    table.remove(counter, place)
    table.remove(counter, place)
  end
end

-- Gives back what was taken last.
local function sliding_give_back(counter, amount)
  local left = least(amount, counter[3])
  counter[3] = subtract(counter[3], left)
  while #counter > 4 and less(0, left) do
    local given = least(left, counter[#counter])
    left = subtract(left, given)
    counter[#counter] = subtract(counter[#counter], given)
    if counter[#counter] == 0 then
      table.remove(counter)
      table.remove(counter)
    end
  end
end

-- The budget's period of an instant: start, end, spent, held.
local function budget_money(counter, limit, now)
  local start, finish = span(limit, now)
  if start > counter[3] then return start, finish, 0, 0 end
  return counter[3], counter[4], counter[5], counter[6]
end

local function budget_roll(counter, start, finish)
  if start > counter[3] then
    counter[7], counter[8], counter[9], counter[10] = counter[3], counter[4], counter[5], counter[6]
    counter[3], counter[4], counter[5], counter[6] = start, finish, 0, 0
  end
end

local NEVER = -2
local PASSES = -1

-- What is used, what of it is held, and when all of it is given back (-1: never).
local function used_of(counter, limit, now)
  local kind = counter[1]
  if kind == BUCKET then
    local ticks = bucket_ticks(counter, limit[8], limit[9], now)
    local reset = instant(add(now, bucket_wait(counter, 0, limit[8], limit[9], now)))
    return saturated(divide_up(ticks, limit[9])), 0, reset
  elseif kind == WINDOW then
    local start, finish = span(limit, now)
    -- A window that begins before the stored one means a clock that stepped back: it renews nothing.
    if start < counter[3] then finish = counter[4] end
    return start > counter[3] and 0 or counter[5], 0, finish
  elseif kind == SLIDING then
    local step = step_of(limit[8])
    local _, gone = slid(counter, slot_of(now, step))
    local used = subtract(counter[3], gone)
    if used == 0 then return used, 0, now end
    return used, 0, leaves_at(counter[#counter - 1], step)
  elseif kind == CONCURRENCY then
    -- Held, lost with the memory, and until when that counts.
    return now < counter[5] and add(counter[3], counter[4]) or counter[3], 0, -1
  end
  local _, finish, spent, held = budget_money(counter, limit, now)
  if limit[9] == 0 then finish = -1 end
  local used = add(spent, held)
  if is_unsure then used = most(used, limit[7]) end
  return used, held, finish
end

-- How long a denied need has to wait.
local function wait_of(counter, limit, need, now, used, reset)
  local kind = counter[1]
  if kind == BUCKET then
    local free = multiply(subtract(limit[7], need), limit[9])
    return bucket_wait(counter, free, limit[8], limit[9], now)
  elseif kind == SLIDING then
    local step = step_of(limit[8])
    local first = slid(counter, slot_of(now, step))
    local excess, freed = subtract(used, subtract(limit[7], need)), 0
    for at = first, #counter, 2 do
      freed = bounded(freed, counter[at + 1])
      if not less(freed, excess) then return since(leaves_at(counter[at], step), now) end
    end
    return 0
  end
  return reset < 0 and NEVER or since(reset, now)
end

-- How a counter stands, and whether `need` passes now.
local function read(counter, limit, need, now)
  if counter[1] ~= kind_of(limit) then counter = fresh(limit, now, 0) end
  local used, held, reset = used_of(counter, limit, now)
  if need == 0 or not less(limit[7], add(need, used)) then return used, held, reset, PASSES end
  if less(limit[7], need) then return used, held, reset, NEVER end
  if is_unsure and counter[1] == BUDGET then return used, held, reset, UNSURE_WAIT_MS end
  return used, held, reset, wait_of(counter, limit, need, now, used, reset)
end

-- Takes an amount and says where, by two numbers.
local function take(counter, limit, amount, now)
  local kind = counter[1]
  if kind == BUCKET then
    bucket_take(counter, limit[8], limit[9], amount, now)
    return now, 0
  elseif kind == WINDOW then
    local start, finish = span(limit, now)
    if start > counter[3] then counter[3], counter[4], counter[5] = start, finish, 0 end
    counter[5] = bounded(counter[5], amount)
    return counter[3], counter[4]
  elseif kind == SLIDING then
    local slot = slide(counter, limit[8], now)
    if less(amount, 0) then
      sliding_give_back(counter, subtract(0, amount))
    else
      sliding_add(counter, slot, amount)
    end
    return slot, limit[8]
  elseif kind == CONCURRENCY then
    counter[3] = bounded(counter[3], amount)
    return 0, 0
  end
  budget_roll(counter, span(limit, now))
  counter[6] = add(counter[6], amount)
  return counter[3], counter[4]
end

-- Where an amount would be taken.
local function place_of_charge(counter, limit, now)
  local kind = counter[1]
  if kind == BUCKET then return now, 0 end
  if kind == CONCURRENCY then return 0, 0 end
  if kind == SLIDING then return sliding_slot(counter, step_of(limit[8]), now), limit[8] end
  local start, finish = span(limit, now)
  if start > counter[3] then return start, finish end
  return counter[3], counter[4]
end

-- A counter that is missing. After a loss of memory nobody knows what stood in it.
local function missing(limit, now, included)
  local counter = fresh(limit, now, included)
  if lost_at == 0 then return counter end
  local kind, size = counter[1], limit[7]
  if kind == WINDOW then
    local start, finish = counter[3], counter[4]
    if start <= lost_at and finish - start <= LOST_WINDOW_MS_MAX then counter[5] = size end
  elseif kind == SLIDING and limit[8] <= LOST_WINDOW_MS_MAX then
    if now < leaves_at(slot_of(lost_at, counter[4]), counter[4]) then
      sliding_add(counter, slot_of(lost_at, counter[4]), size)
    end
  elseif kind == BUCKET then
    local lasts = divide_up(multiply(size, limit[9]), limit[8])
    if not less(LOST_WINDOW_MS_MAX, lasts) and now < lost_at + lasts then
      bucket_take(counter, limit[8], limit[9], size, lost_at)
    end
  elseif kind == CONCURRENCY and now < lost_at + LOST_WINDOW_MS_MAX then
    -- As long as the longest of the reservations that were lost with it.
    counter[4], counter[5] = size, instant(lost_at + LOST_WINDOW_MS_MAX)
  end
  return counter
end
