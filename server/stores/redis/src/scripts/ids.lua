-- Ids of decisions, spread over hashes that are small enough to be packed.
--
-- A request is an array: id, hash of what is asked, until when it stands, attempt (or empty), and a hash
-- of its charges. What is kept of a decision is an array: hash of what was asked, until when, reservation
-- (or empty), and for a caller who may cancel: the attempts that it answered, and without a reservation
-- the hash of its charges, how long before its end it was taken, and where it took what, which is empty
-- where that follows from the charges and the instant. A cancelled attempt is kept under its id and
-- itself, until its time is over.

local ATTEMPT_BYTES, ATTEMPTS_MAX = 4, 8
-- An id's key outlives the last of its ids by this much: as long as that of a CONSUME stands, so that a cancel
-- of whoever repeated it last is told that it comes too late.
local ID_KEPT_MS = 60000
-- And by this much where the command's own clock counts, as in tests: the server's may be far ahead.
local ID_KEPT_BY_COMMAND_MS = 86400000
-- The field that says until when, by the server's clock, the key is kept at least, so that it is not told with
-- each id. No id is as short.
local KEPT_UNTIL = 't'
local ids_kept_until

-- The decision that stands for an id, and whether this attempt at it was cancelled.
local function recalled(request)
  local found = redis.call('HMGET', IDS_KEY, request[1], request[1] .. request[4], KEPT_UNTIL)
  ids_kept_until = tonumber(found[3] or 0)
  if request[4] == '' or not found[2] then return found[1], false end
  local _, until_when = cmsgpack.unpack(found[2])
  return found[1], until_when > now
end

-- Keeps something of an id until its time is over. `asked_at` is zero where the server's clock counts.
local function keep_id(field, value, expires_at, asked_at)
  local life_ms = since(expires_at, now)
  if server_now + life_ms <= ids_kept_until then
    redis.call('HSET', IDS_KEY, field, value)
    return
  end
  local kept_ms = life_ms + (asked_at == 0 and ID_KEPT_MS or ID_KEPT_BY_COMMAND_MS)
  redis.call('HSET', IDS_KEY, field, value, KEPT_UNTIL, string.format('%.0f', server_now + kept_ms))
  if redis.call('PEXPIRE', IDS_KEY, kept_ms, 'GT') == 0 then
    redis.call('PEXPIRE', IDS_KEY, kept_ms, 'NX')
  end
end

-- The place of an attempt among those that a decision answered.
local function place_of_attempt(attempts, attempt)
  for place = 1, #attempts, ATTEMPT_BYTES do
    if string.sub(attempts, place, place + ATTEMPT_BYTES - 1) == attempt then return place end
  end
  return nil
end

-- Where a decision took an amount of a limit, by two numbers, when nothing stood in the way.
local function usual_place(charge, at)
  local kind = kind_of(charge)
  if kind == BUCKET then return at, 0 end
  if kind == SLIDING then return slot_of(at, step_of(charge[8])), charge[8] end
  return span(charge, at)
end

-- A mark of two such numbers.
local function mark_of(charge, first, second)
  local kind = kind_of(charge)
  if kind == BUCKET then return { kind, first, charge[8], charge[9] } end
  return { kind, first, second }
end
