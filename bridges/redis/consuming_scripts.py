"""What Redis does for a consumer of many queues in one step, as Lua scripts; scripts.py says what they share.

A consumer is to Redis what a batch is, of all its queues: a consumer of their groups, with such a name. So what it
holds comes back after the lease, unless it renews it.
"""

from __future__ import annotations

from bridges.redis.scripts import TAKING, Script

#: Takes the oldest entries of each stream: first those given back, and those held for longer than the lease, then new
#: ones. Of what the consumer holds itself nothing is taken again.
#:
#: KEYS: streams. ARGV: group, name of the consumer, lease (ms), bytes after which no more are taken, largest number of
#: expired ones to remove, and for each stream the largest number of entries. Returns Redis's time (ms); how many of the
#: streams are done with; the numbers of those that are missing; and for each entry the number of its stream, its id,
#: how often it was delivered before, and its fields.
TAKE = Script(TAKING + """
local group, name, lease = ARGV[1], ARGV[2], ARGV[3]
local bytes, removals = tonumber(ARGV[4]), tonumber(ARGV[5])
local missing, taken, done = {}, {}, 0
local number, key, room
local function full()
  return room <= 0 or bytes <= 0 or removals <= 0
end
local function take(entry, deliveries)
  if expired(entry) then
    remove(key, group, entry)
    removals = removals - 1
    return
  end
  bytes = bytes - size(entry)
  room = room - 1
  taken[#taken + 1] = {number, entry[1], deliveries, entry[2]}
end
local function idle()
  local rows = redis.pcall('XPENDING', key, group, 'IDLE', lease, '-', '+', room)
  if not rows.err then
    return rows
  end
  if not rows.err:find('NOGROUP', 1, true) or redis.call('EXISTS', key) == 0 then
    return
  end
  return not redis.pcall('XGROUP', 'CREATE', key, group, '0').err and {} or nil
end
local function claim(rows)
  local owners = {}
  while #rows > 0 and not full() do
    for _, row in ipairs(rows) do
      if row[2] == name then
        redis.call('XCLAIM', key, group, name, 0, row[1], 'JUSTID')
      elseif not full() then
        owners[row[2]] = true
        local entry = redis.call('XCLAIM', key, group, name, 0, row[1])[1]
        if entry then
          take(entry, row[4])
        end
      end
    end
    if not full() then
      rows = idle()
    end
  end
  dismiss(key, group, owners)
end
for place = 1, #KEYS do
  number, key, room = place, KEYS[place], tonumber(ARGV[5 + place])
  local rows = idle()
  if not rows then
    missing[#missing + 1] = number
  elseif redis.call('XLEN', key) > 0 then
    claim(rows)
    while not full() do
      local reply = redis.call('XREADGROUP', 'GROUP', group, name, 'COUNT', 1, 'STREAMS', key, '>')
      if not reply then
        break
      end
      take(reply[1][2][1], 0)
    end
    if room > 0 and full() then
      break
    end
  end
  done = number
end
return {now, done, missing, taken}
""")

#: Begins the lease of what a consumer holds anew. What others have taken meanwhile stays theirs.
#:
#: KEYS: streams. ARGV: group, name of the consumer.
RENEW = Script("""
for _, key in ipairs(KEYS) do
  local rows = redis.pcall('XPENDING', key, ARGV[1], '-', '+', 10000, ARGV[2])
  if rows.err and not rows.err:find('NOGROUP', 1, true) then
    return rows
  end
  for _, row in ipairs(rows) do
    redis.call('XCLAIM', key, ARGV[1], ARGV[2], 0, row[1], 'JUSTID')
  end
end
return 0
""")

#: Gives back some of what a consumer holds; what others hold by now stays theirs.
#:
#: KEYS: stream. ARGV: group, name of the consumer, consumer of what was given back, and the ids.
GIVE_SOME_BACK = Script("""
local key, group, name, back = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
for place = 4, #ARGV do
  local id = ARGV[place]
  local rows = redis.pcall('XPENDING', key, group, id, id, 1, name)
  if rows.err and not rows.err:find('NOGROUP', 1, true) then
    return rows
  end
  if #rows > 0 then
    redis.call('XCLAIM', key, group, back, 0, id, 'TIME', 0, 'JUSTID')
  end
end
return 0
""")

#: Forgets consumers that hold nothing and have not been heard of for a lease: those of gateways that have died.
#:
#: KEYS: streams. ARGV: group, lease (ms).
TIDY = Script("""
for _, key in ipairs(KEYS) do
  local rows = redis.pcall('XINFO', 'CONSUMERS', key, ARGV[1])
  for _, row in ipairs(rows) do
    local told = {}
    for place = 1, #row, 2 do
      told[row[place]] = row[place + 1]
    end
    if told.name:sub(1, 6) == 'batch-' and told.pending == 0 and told.idle > tonumber(ARGV[2]) then
      redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], told.name)
    end
  end
end
return 0
""")
