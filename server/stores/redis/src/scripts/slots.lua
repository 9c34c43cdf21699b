-- Slots of replicas: small numbers, each with who holds it and until when; `b` is since when the server
-- knows of any. Two commands: now (0: the server's clock), holder, last number (or -1), life, settling
-- time, numbers that there are; or holder and number, to free it.

local KEPT_MS = 86400000

local function free(holder, number)
  local held = redis.call('HGET', KEYS[1], number)
  if held and cmsgpack.unpack(held) == holder then redis.call('HDEL', KEYS[1], number) end
  return { -1, 0 }
end

if #ARGV == 2 then return free(ARGV[1], ARGV[2]) end

local now, holder, last, life_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local settling_ms, slots_max = tonumber(ARGV[5]), tonumber(ARGV[6])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function may_have(held)
  if not held then return true end
  local other, until_when = cmsgpack.unpack(held)
  return other == holder or until_when <= now
end

-- The last one again, or the first that is free.
local function number()
  if last >= 0 and last < slots_max and may_have(redis.call('HGET', KEYS[1], last)) then return last end
  local all, held = redis.call('HGETALL', KEYS[1]), {}
  for place = 1, #all, 2 do held[all[place]] = all[place + 1] end
  for number = 0, slots_max - 1 do
    if may_have(held[tostring(number)]) then return number end
  end
  return -1
end

local known_since = tonumber(redis.call('HGET', KEYS[1], 'b') or now)
local mine = number()
redis.call('HSETNX', KEYS[1], 'b', string.format('%.0f', now))
if mine >= 0 then redis.call('HSET', KEYS[1], mine, cmsgpack.pack(holder, now + life_ms)) end
redis.call('PEXPIRE', KEYS[1], life_ms + KEPT_MS)
return { mine, math.max(known_since + settling_ms - now, 0) }
