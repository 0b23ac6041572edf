"""What those who claim do with messages that were claimed too often; see dead_letters.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.core.queues.info import QueueInfo
from storage.model import Claim, Message


@dataclass(frozen=True, slots=True)
class Burial:
    """Dead messages: ``move`` is to be called with those that have been claimed with ``hold``, when that is done."""

    hold: Claim
    dead: list[Message]
    move: Callable[[list[Message]], None]


class SortOut(Protocol):
    """Gets free messages of a queue, and returns those that may be claimed; the others go to the dead letters.

    That is done here, or, if there is a list of ``burials``, prepared in it.
    """

    def __call__(self, info: QueueInfo, free: list[Message], burials: list[Burial] | None = None) -> list[Message]: ...
