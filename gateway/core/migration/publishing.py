"""Where the posts of a queue go that moves from one broker to another, or from or to a pool without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.core.errors import Busy
from gateway.core.publishing import Publishing
from gateway.core.queues.info import QueueInfo
from storage.model import Message

#: Seconds before the switch in which posts wait for it: gateways read the clock of the side-store with an error, and a
#: producer whose post went the new way through one of them must not post the old way through another.
CLOCKS_DIFFER = 0.1

#: Seconds between two looks whether posts may go on, and seconds after which a post gives up waiting for that. It is
#: well below two seconds as long as nothing fails.
LOOK_AGAIN = 0.025
PATIENCE = 10.0


class MovingPublishing(Publishing):
    """Posts go the ``old`` way, and the ``new`` one from the switch on. ``until_switch``: seconds, 0 from then on.

    ``must_wait``: the new way would overtake what waits in the old broker. Then posts wait from the switch on until
    ``has_settled`` says, of a queue, that nothing is left there.
    """

    def __init__(
        self,
        old: Publishing,
        new: Publishing,
        until_switch: Callable[[], float],
        must_wait: bool,
        has_settled: Callable[[QueueInfo], bool],
    ):
        self._old = old
        self._new = new
        self._until_switch = until_switch
        self._must_wait = must_wait
        self._has_settled = has_settled

    def publish(self, info: QueueInfo, messages: Sequence[Message]) -> None:
        """See Publishing."""
        if (left := self._until_switch()) > CLOCKS_DIFFER:
            self._old.publish(info, messages)
            return
        time.sleep(left)
        if self._must_wait:
            self._wait(info)
        self._new.publish(info, messages)

    def _wait(self, info: QueueInfo) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._has_settled(info):
            if time.monotonic() > deadline:
                raise Busy("this queue is moving to another pool, which takes longer than it should; try again")
            time.sleep(LOOK_AGAIN)

    def newest(self, info: QueueInfo) -> Message | None:
        """See Publishing."""
        return self._new.newest(info) or self._old.newest(info)

    def forget(self, key: str) -> None:
        """See Publishing."""
        self._old.forget(key)
        self._new.forget(key)
