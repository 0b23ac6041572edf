"""Copies of what is published to a queue: streams that get it together with the queue's own.

The set beside a queue's stream has the streams that get copies, and the queue's own: so it stays when the last copy is
removed, and a set that is not there means that the queue was deleted meanwhile, and its copying with it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from bridges.base import Envelope
from bridges.errors import BridgeUnavailable
from bridges.redis.entries import fields_of
from bridges.redis.link import Command, Link
from bridges.redis.pool import Pool
from bridges.redis.refusals import translated
from bridges.redis.scripts import GROUP, Script

#: Ends the name of the set. No queue has a tilde there but a copy, and none of those is called so.
SET = ".~copies"

#: Share of the time that is left which replicas have to confirm: Redis's answer must come in time, too.
REPLICAS = 0.8

#: Adds messages to a queue's stream and to those that get copies, to all or to none: what may fail is looked at before
#: the first write, and at its memory limit or without its disk Redis refuses a script's first write alone. A copy that
#: is gone is left out.
#:
#: KEYS: stream, set. ARGV: 1 to put them into the stream, too, or 0 for the copies alone; and for each message how many
#: names and values of fields follow, and these. Returns nil if there is no such stream or set.
PUBLISH = Script("""
local streams = {}
if ARGV[1] == '1' then
  streams[1] = KEYS[1]
end
local members = redis.call('SMEMBERS', KEYS[2])
for _, copy in ipairs(members) do
  if copy ~= KEYS[1] and redis.call('XLEN', copy) >= 0 then
    streams[#streams + 1] = copy
  end
end
if #members == 0 then
  return false
end
local place, last = 2, #ARGV
while place < last do
  local first = place + 1
  place = first + ARGV[place]
  for _, stream in ipairs(streams) do
    local id = redis.call('XADD', stream, 'NOMKSTREAM', '*', unpack(ARGV, first, place - 1))
    if not id and stream == KEYS[1] then
      return false
    end
  end
end
return 1
""")

#: Makes a copy's stream, or leaves that to others, and puts it into the set.
#:
#: KEYS: stream, set, stream of the copy. ARGV: group, 1 to make the stream.
ADD = Script("""
if ARGV[2] == '1' then
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[3], ARGV[1], '0', 'MKSTREAM')
  if made.err and not made.err:find('BUSYGROUP', 1, true) then
    return made
  end
end
return redis.call('SADD', KEYS[2], KEYS[1], KEYS[3])
""")

#: Takes a copy out of the set, and removes it or leaves it there; and the set with the last one if the queue is gone.
#:
#: KEYS: stream, set, stream of the copy. ARGV: 1 to keep the copy's stream.
REMOVE = Script("""
redis.call('SREM', KEYS[2], KEYS[3])
if ARGV[1] == '0' then
  redis.call('UNLINK', KEYS[3])
end
if #redis.call('SMEMBERS', KEYS[2]) == 1 and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('UNLINK', KEYS[2])
end
return 0
""")


def set_of(key: str) -> str:
    """The key of the set that is beside a stream."""
    return f"{key}{SET}"


def publishing(key: str, envelopes: Sequence[Envelope], kept: bool) -> Command:
    """The command that puts messages into the stream ``key``, if they are to be ``kept`` there, and its copies."""
    command: list[bytes | str | int] = ["EVALSHA", PUBLISH.sha, 2, key, set_of(key), int(kept)]
    for envelope in envelopes:
        fields = fields_of(envelope)
        command.append(len(fields))
        command += fields
    return command


def with_source(command: Command) -> Command:
    """The same for a Redis that does not know the script."""
    return ("EVAL", PUBLISH.source, *command[2:])


def confirmed(link: Link, replicas: int) -> int:
    """How many replicas have what was sent on the link, when ``replicas`` have it or time is nearly up."""
    count: int = link.ask("WAIT", replicas, max(1, int(link.left() * REPLICAS * 1000)))
    return count


class Copies:
    """Makes and removes copies by links of ``pool``, within ``timeout`` seconds. Raises BridgeError.

    ``replicas``: how many must confirm it: they must know of a copy before they can keep its messages.
    """

    def __init__(self, pool: Pool, timeout: float, replicas: int):
        self._pool = pool
        self._timeout = timeout
        self._replicas = replicas

    def add(self, key: str, copy: str, create: bool) -> None:
        """As Bridge.add_copy, for streams."""
        self._change(ADD, key, copy, GROUP, int(create))

    def remove(self, key: str, copy: str, keep: bool) -> None:
        """As Bridge.remove_copy, for streams."""
        self._change(REMOVE, key, copy, int(keep))

    def _change(self, script: Script, key: str, copy: str, *arguments: str | int) -> None:
        with translated(), self._pool.lent(time.monotonic() + self._timeout) as link:
            link.run_on(script, (key, set_of(key), copy), *arguments)
            have = confirmed(link, self._replicas) if self._replicas else 0
        if have < self._replicas:
            raise BridgeUnavailable(f"{have} replicas of Redis have confirmed in time, {self._replicas} are wanted")
