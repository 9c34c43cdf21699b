-- Slots of replicas: small numbers, each with who holds it and until when; `b` is since when the server
-- knows of any.
do
  local SLOTS_KEPT_MS = 86400000

  local function may_have(held, holder, at)
    if not held then return true end
    local other, until_when = cmsgpack.unpack(held)
    return other == holder or until_when <= at
  end

  -- The last one again, or the first that is free.
  local function number_for(holder, last, slots_max, at)
    local all, held = redis.call('HGETALL', KEY), {}
    for place = 1, #all, 2 do held[all[place]] = all[place + 1] end
    if last >= 0 and last < slots_max and may_have(held[tostring(last)], holder, at) then return last end
    for number = 0, slots_max - 1 do
      if may_have(held[tostring(number)], holder, at) then return number end
    end
    return -1
  end

  -- The command: now (0: the server's clock), holder, last number (or -1), life, settling time, numbers
  -- that there are.
  define('claim', function(command)
    local asked_at, holder, last, life_ms, settling_ms, slots_max = unpack(command)
    local at = asked_at > 0 and asked_at or clock()
    local known_since = tonumber(redis.call('HGET', KEY, 'b') or at)
    local mine = number_for(holder, last, slots_max, at)
    redis.call('HSETNX', KEY, 'b', string.format('%.0f', at))
    if mine >= 0 then redis.call('HSET', KEY, mine, cmsgpack.pack(holder, at + life_ms)) end
    redis.call('PEXPIRE', KEY, life_ms + SLOTS_KEPT_MS)
    return { mine, math.max(known_since + settling_ms - at, 0) }
  end)

  -- The command: holder and number.
  define('free', function(command)
    local holder, number = unpack(command)
    local held = redis.call('HGET', KEY, number)
    if held and cmsgpack.unpack(held) == holder then redis.call('HDEL', KEY, number) end
    return { -1, 0 }
  end)
end
