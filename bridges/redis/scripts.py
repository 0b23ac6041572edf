"""What Redis does by itself in one step, as Lua scripts.

They are sent without a ``#!lua`` line: Redis refuses a script that has one at its memory limit, and runs one without
as long as its commands need no more memory, so that messages can still be fetched.

The consumer group of a queue is ``marconi``. Each batch is a consumer of its own, so that a batch gives back what is
still its own and nothing else. The consumer ``back`` has what was given back: delivered at the time 0, so that it
counts as idle for longer than any lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1

#: The consumer group of each queue, the consumer of what was given back, and what the names of batches begin with.
GROUP, BACK, HOLDER = "marconi", "back", "batch-"


@dataclass(frozen=True)
class Script:
    """A Lua script and the digest that Redis knows it by."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


#: Is an entry's ttl (ms) over? It runs from the time in the entry's id, which is that of Redis.
EXPIRED = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function expired(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'ttl' then
      local ttl = entry[2][i + 1]:match('^%d+$')
      return ttl and entry[1]:match('^%d+') + ttl <= now
    end
  end
end
"""

#: What those that take entries share: they remove an entry of a group for good, know its bytes, whether anybody but
#: the consumer ``back`` holds something whose lease is not over, and remove batches that hold nothing any more.
TAKING = EXPIRED + """
local function remove(key, group, entry)
  redis.call('XDEL', key, entry[1])
  redis.call('XACK', key, group, entry[1])
end
local function size(entry)
  local bytes = 0
  for i = 2, #entry[2], 2 do
    bytes = bytes + #entry[2][i]
  end
  return bytes
end
local function is_held(key, group, lease, back)
  local summary = redis.pcall('XPENDING', key, group)
  for _, row in ipairs(not summary.err and summary[4] or {}) do
    for _, entry in ipairs(row[1] ~= back and redis.call('XPENDING', key, group, '-', '+', row[2], row[1]) or {}) do
      if entry[3] < lease then
        return true
      end
    end
  end
  return false
end
local function dismiss(key, group, owners)
  for owner in pairs(owners) do
    if owner:sub(1, 6) == 'batch-' and #redis.call('XPENDING', key, group, '-', '+', 1, owner) == 0 then
      redis.call('XGROUP', 'DELCONSUMER', key, group, owner)
    end
  end
end
"""

#: Takes the oldest entries: first those given back, and those held for longer than the lease, then new ones.
#:
#: KEYS: stream. ARGV: group, name of the batch, largest number of entries, lease (ms), bytes after which no more are
#: taken, the largest number of expired ones to remove, and the consumer of what was given back if it must not take
#: anything while others hold something; else nothing. Returns 1 if it has stopped because of the number of expired
#: ones, and for each entry its id, how often it was delivered before, and its fields.
FETCH = Script(TAKING + """
local key, group, batch = KEYS[1], ARGV[1], ARGV[2]
local limit, lease, room, removals = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('XLEN', key) == 0 or ARGV[7] ~= '' and is_held(key, group, tonumber(lease), ARGV[7]) then
  return {0, {}}
end
local taken, owners = {}, {}
local function full()
  return #taken >= limit or room <= 0 or removals <= 0
end
local function take(entry, deliveries)
  if expired(entry) then
    remove(key, group, entry)
    removals = removals - 1
    return
  end
  room = room - size(entry)
  taken[#taken + 1] = {entry[1], deliveries, entry[2]}
end
local function idle()
  return redis.pcall('XPENDING', key, group, 'IDLE', lease, '-', '+', limit)
end
local rows = idle()
if rows.err then
  if not rows.err:find('NOGROUP', 1, true) then
    return rows
  end
  redis.call('XGROUP', 'CREATE', key, group, '0')
  rows = {}
end
while #rows > 0 and not full() do
  for _, row in ipairs(rows) do
    if full() then
      break
    end
    owners[row[2]] = true
    local entry = redis.call('XCLAIM', key, group, batch, 0, row[1])[1]
    if entry then
      take(entry, row[4])
    end
  end
  rows = idle()
end
dismiss(key, group, owners)
while not full() do
  local reply = redis.call('XREADGROUP', 'GROUP', group, batch, 'COUNT', 1, 'STREAMS', key, '>')
  if not reply then
    break
  end
  take(reply[1][2][1], 0)
end
if #taken == 0 then
  redis.call('XGROUP', 'DELCONSUMER', key, group, batch)
end
return {removals <= 0 and 1 or 0, taken}
""")

#: Gives back what a batch holds, of each stream. What others hold by now, because its lease was over, stays theirs.
#:
#: KEYS: streams. ARGV: group, name of the batch, consumer of what was given back.
GIVE_BACK = Script("""
local group, batch, back = ARGV[1], ARGV[2], ARGV[3]
for _, key in ipairs(KEYS) do
  local rows = redis.pcall('XPENDING', key, group, '-', '+', 10000, batch)
  if rows.err then
    if not rows.err:find('NOGROUP', 1, true) then
      return rows
    end
  else
    for _, row in ipairs(rows) do
      redis.call('XCLAIM', key, group, back, 0, row[1], 'TIME', 0, 'JUSTID')
    end
    if #redis.call('XPENDING', key, group, '-', '+', 1, batch) == 0 then
      redis.call('XGROUP', 'DELCONSUMER', key, group, batch)
    end
  end
end
return 0
""")

#: How many entries nobody holds, and how many are held. Removed entries may still be counted as held, so the first may
#: be too few and the second too many.
#:
#: KEYS: stream. ARGV: group, consumer of what was given back.
COUNTS = Script("""
local length = redis.call('XLEN', KEYS[1])
if length == 0 then
  return {0, 0}
end
local summary = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if summary.err then
  return {length, 0}
end
local held = summary[1]
for _, row in ipairs(summary[4] or {}) do
  if row[1] == ARGV[2] then
    held = held - row[2]
  end
end
return {math.max(0, length - held), math.min(length, held)}
""")

#: Removes all entries, and forgets those that were given back.
#:
#: KEYS: stream. ARGV: group, consumer of what was given back.
PURGE = Script("""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
  redis.pcall('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return 0
""")

#: Removes expired entries at the head, held ones too: whoever holds one will find that it has expired.
#:
#: KEYS: stream, and the set of further streams, if they are to be looked at too. ARGV: group, largest number of entries
#: to remove from a stream, and about how many in all.
TRIM = Script(EXPIRED + """
local streams = KEYS[2] and redis.call('SMEMBERS', KEYS[2]) or {}
if #streams == 0 then
  streams = {KEYS[1]}
end
local each = math.min(tonumber(ARGV[2]), math.ceil(ARGV[3] / #streams))
for _, stream in ipairs(streams) do
  for _ = 1, each do
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if not first or not expired(first) then
      break
    end
    redis.call('XDEL', stream, first[1])
    redis.pcall('XACK', stream, ARGV[1], first[1])
  end
end
return 0
""")
