-- Integers of any size. Lua's numbers are doubles, exact below 2^53; an integer beyond that is a
-- table of limbs, so that what is common costs one comparison.

local SAFE = 9007199254740992
-- Lua's own libraries are not there while this one is loaded.
local fmod, floor
local add, subtract, multiply, divide, less

-- The arithmetic of large integers: sign and limbs of base 10^7, lowest first. A result below 2^53
-- is a plain number again, so that every integer has one shape.
local big = {}
do
  local BASE, DIGITS = 10000000, 7

  local function magnitude(value)
    if type(value) == 'table' then return value, value.negative end
    local negative, limbs, place = value < 0, {}, 1
    if negative then value = -value end
    repeat
      local low = fmod(value, BASE)
      limbs[place], value, place = low, (value - low) / BASE, place + 1
    until value == 0
    return limbs, negative
  end

  local function made(limbs, negative)
    local top = #limbs
    while top > 1 and limbs[top] == 0 do
      limbs[top], top = nil, top - 1
    end
    -- Three limbs may still be below 2^53; a product that is not never rounds to less.
    if top <= 3 then
      local value = 0
      for place = top, 1, -1 do value = value * BASE + limbs[place] end
      if value < SAFE then return (negative and value > 0) and -value or value end
    end
    limbs.negative = negative
    return limbs
  end

  local function compare_limbs(a, b)
    if #a ~= #b then return #a < #b and -1 or 1 end
    for place = #a, 1, -1 do
      if a[place] ~= b[place] then return a[place] < b[place] and -1 or 1 end
    end
    return 0
  end

  local function sum(a, b)
    local limbs, carry = {}, 0
    for place = 1, math.max(#a, #b) do
      local s = (a[place] or 0) + (b[place] or 0) + carry
      carry = s >= BASE and 1 or 0
      limbs[place] = s - carry * BASE
    end
    if carry > 0 then limbs[#limbs + 1] = carry end
    return limbs
  end

  -- Of limbs that are at least as much.
  local function difference(a, b)
    local limbs, borrow = {}, 0
    for place = 1, #a do
      local d = a[place] - (b[place] or 0) - borrow
      borrow = d < 0 and 1 or 0
      limbs[place] = d + borrow * BASE
    end
    return limbs
  end

  local function approximate(value)
    if type(value) == 'number' then return value end
    local x = 0
    for place = #value, 1, -1 do x = x * BASE + value[place] end
    return x
  end

  function big.negated(value)
    if type(value) == 'number' then return -value end
    local limbs = {}
    for place = 1, #value do limbs[place] = value[place] end
    limbs.negative = not value.negative
    return limbs
  end

  function big.add(a, b)
    local x, x_negative = magnitude(a)
    local y, y_negative = magnitude(b)
    if x_negative == y_negative then return made(sum(x, y), x_negative) end
    local order = compare_limbs(x, y)
    if order == 0 then return 0 end
    if order > 0 then return made(difference(x, y), x_negative) end
    return made(difference(y, x), y_negative)
  end

  function big.multiply(a, b)
    local x, x_negative = magnitude(a)
    local y, y_negative = magnitude(b)
    local limbs = {}
    for place = 1, #x + #y do limbs[place] = 0 end
    for i = 1, #x do
      local carry = 0
      for j = 1, #y do
        local s = limbs[i + j - 1] + x[i] * y[j] + carry
        local low = fmod(s, BASE)
        limbs[i + j - 1], carry = low, (s - low) / BASE
      end
      limbs[i + #y] = carry
    end
    return made(limbs, x_negative ~= y_negative)
  end

  -- Quotient and rest; neither is negative. Each digit is guessed by doubles and put right.
  function big.divide(a, b)
    local x = magnitude(a)
    local limbs, rest, by = {}, 0, approximate(b)
    for place = #x, 1, -1 do limbs[place] = 0 end
    for place = #x, 1, -1 do
      rest = add(multiply(rest, BASE), x[place])
      local digit = floor(approximate(rest) / by)
      rest = subtract(rest, multiply(b, digit))
      while less(rest, 0) do digit, rest = digit - 1, add(rest, b) end
      while not less(rest, b) do digit, rest = digit + 1, subtract(rest, b) end
      limbs[place] = digit
    end
    return made(limbs, false), rest
  end

  function big.less(a, b)
    local x, x_negative = magnitude(a)
    local y, y_negative = magnitude(b)
    if x_negative ~= y_negative then return x_negative end
    local order = compare_limbs(x, y)
    if x_negative then return order > 0 end
    return order < 0
  end

  function big.parse(text)
    local negative = string.sub(text, 1, 1) == '-'
    if negative then text = string.sub(text, 2) end
    local limbs = {}
    for last = #text, 1, -DIGITS do
      limbs[#limbs + 1] = tonumber(string.sub(text, math.max(1, last - DIGITS + 1), last))
    end
    return made(limbs, negative)
  end

  function big.text(value)
    local parts = { value.negative and '-' or '', string.format('%.0f', value[#value]) }
    for place = #value - 1, 1, -1 do parts[#parts + 1] = string.format('%07.0f', value[place]) end
    return table.concat(parts)
  end

  -- 2^63 - 1.
  big.most = { 4775807, 7203685, 92233, negative = false }
end

function add(a, b)
  if type(a) == 'number' and type(b) == 'number' then
    local s = a + b
    if s < SAFE and s > -SAFE then return s end
  end
  return big.add(a, b)
end

function subtract(a, b)
  if type(a) == 'number' and type(b) == 'number' then
    local d = a - b
    if d < SAFE and d > -SAFE then return d end
  end
  return big.add(a, big.negated(b))
end

function multiply(a, b)
  if type(a) == 'number' and type(b) == 'number' then
    local p = a * b
    if p < SAFE and p > -SAFE then return p end
  end
  return big.multiply(a, b)
end

-- Quotient, rounded down, and rest; neither number is negative.
function divide(a, b)
  if type(a) == 'number' and type(b) == 'number' then
    local rest = fmod(a, b)
    return (a - rest) / b, rest
  end
  return big.divide(a, b)
end

function less(a, b)
  if type(a) == 'number' and type(b) == 'number' then return a < b end
  return big.less(a, b)
end

local function divide_up(a, b)
  local quotient, rest = divide(a, b)
  if rest ~= 0 then return add(quotient, 1) end
  return quotient
end

local function least(a, b)
  if less(b, a) then return b end
  return a
end

local function most(a, b)
  if less(a, b) then return b end
  return a
end

-- An integer as it came: beyond 2^53 it is text.
local function integer(value)
  if type(value) == 'string' then return big.parse(value) end
  return value
end

-- An integer as it goes.
local function shown(value)
  if type(value) == 'table' then return big.text(value) end
  return value
end

-- At most what 64 bits hold, as the core saturates.
local function saturated(value)
  if type(value) == 'table' and big.less(big.most, value) then return big.most end
  return value
end

-- Adds to what is used: never below nothing, and full when it is full.
local function bounded(used, amount)
  local sum = add(used, amount)
  if less(sum, 0) then return 0 end
  return saturated(sum)
end
