"""Bindings to exchanges of others, kept while nobody reads: an exchange may come later, or go and come again.

OpenStack's exchanges end with the broker. What is published to one before the gateway's queue is bound to it again is
lost, so every gateway looks after all bindings every few seconds, from its start on. Several that do it at once do no
harm, since a binding that is there is left alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridges.bridging import Binding
from bridges.errors import BridgeUnavailable, BrokerRefused, ExchangeMissing, QueueMissing
from bridges.foreign import ForeignBridge
from gateway.core.errors import NotFound
from storage.base import SideStore
from storage.errors import StoreError
from storage.model import Queue, split_name

LOG = logging.getLogger(__name__)

#: Seconds between two rounds.
ROUND = 0.5

#: How many queues are bound in a round, each of which takes about a millisecond and as much for each binding
#: key, and seconds after which a round is over: threads that answer requests want broker and interpreter too.
AT_ONCE = 100
ROUND_AT_MOST = 0.1

#: Seconds after which a binding is looked after again: what is published in between to an exchange that was created
#: again is lost.
AGAIN = 2.0

#: Seconds till the next try after one in vain, which each further one doubles.
FIRST_PAUSE = 0.5

#: Seconds to which that grows: where the exchange is missing, and where an operator has to see to it.
MISSING, REFUSED = 4.0, 30.0

#: Seconds between two looks at which queues there are; those that this process creates or reads are known at once.
LISTING = 5.0

#: Queues read from the side-store at once.
PAGE = 200

#: What may be down: the side-store, or the broker at a virtual host.
Down = tuple[str, str | None]
SIDE_STORE: Down = ("side-store", None)


def bind(bridge: ForeignBridge, queue: str, binding: Binding, ordering: Mapping[str, bool]) -> None:
    """Bind a queue of ours, which is created if it is missing. ``ordering``: see QueueInfo.

    Raises NotFound when the exchange is missing.
    """
    try:
        try:
            bridge.bind(queue, binding)
        except QueueMissing:
            bridge.create(queue, **ordering)
            bridge.bind(queue, binding)
    except ExchangeMissing as error:
        raise NotFound(f"The broker has no exchange {binding.exchange}, which this queue is bridged to") from error


@dataclass(slots=True)
class Bound:
    """A queue to look after. ``mark``: what its entry in the side-store had; ``info``: None until it is read.

    ``copies``: names of its subscriptions' delivery queues on the broker, which are bound to the same exchange.
    """

    mark: str
    due: float = 0.0
    pause: float = 0.0
    info: Any = None
    copies: Sequence[str] = ()
    state: str = ""


class Binder:
    """Looks after the bindings of all queues that read from an exchange, in a thread of its own.

    ``info_of(project, name, document)`` is the queue's QueueInfo. Its pool is asked for the bridge each time, since
    a bridge that nobody asks for is closed. ``copies`` knows the delivery queues.
    """

    def __init__(self, store: SideStore, info_of: Callable[[str, str, Queue], Any], copies: Any = None):
        self._store = store
        self._info_of = info_of
        self._copies = copies
        self._bound: dict[str, Bound] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._after = ""
        self._listed = float("-inf")

    # -- which queues -------------------------------------------------------------------------------------------

    def add(self, key: str) -> None:
        """A queue has been created, perhaps again: all gateways are to look after it."""
        mark = self._store.catalogue.mark_bridged(key)
        with self._lock:
            self._bound[key] = Bound(mark)

    def see(self, key: str) -> None:
        """A queue is read: look after it, if it was created by a gateway that did not know of this."""
        with self._lock:
            if key in self._bound:
                return
        self.add(key)

    def _list(self) -> None:
        """Read the next page of the queues that all gateways look after."""
        found = self._store.catalogue.list_bridged(self._after, PAGE)
        until = found[-1][0] if len(found) == PAGE else None
        marks = dict(found)
        with self._lock:
            for key, mark in found:
                known = self._bound.get(key)
                if known is None or known.mark != mark:
                    self._bound[key] = Bound(mark)
            for key in [key for key in self._bound if key > self._after and (until is None or key <= until)]:
                if key not in marks and self._bound[key].info is not None:  # else just being added, perhaps
                    del self._bound[key]
        self._after = until or ""
        if until is None:
            self._listed = time.monotonic()

    # -- the thread ---------------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Start the thread if it does not run in this process, which may be a fork of another."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="binder", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(ROUND):
            try:
                self.round()
            except Exception:  # it must go on whatever happened once
                LOG.exception("looking after bindings failed")

    def round(self) -> None:
        """Bind what is due, the longest due first."""
        now = time.monotonic()
        down: set[Down] = set()
        if self._after or now - self._listed >= LISTING:
            try:
                self._list()
            except StoreError as error:  # what is known is bound all the same; requests say louder that it is down
                LOG.debug("which queues are bridged can't be read: %s", error)
                down.add(SIDE_STORE)
        with self._lock:
            due = sorted((bound.due, key) for key, bound in self._bound.items() if bound.due <= now)[:AT_ONCE]
        for _, key in due:
            if self._closing.is_set() or time.monotonic() - now > ROUND_AT_MOST:
                return
            with self._lock:
                bound = self._bound.get(key)
            if bound is not None:
                self._look_after(key, bound, down)

    def _look_after(self, key: str, bound: Bound, down: set[Down]) -> None:
        """Bind one queue. ``down``: what did not answer in this round, and others need not wait for too."""
        state, longest = "bound", AGAIN
        try:
            if bound.info is None and (SIDE_STORE in down or not self._read(key, bound)):
                return
            source = bound.info.settings.bridging.source
            if ("vhost", source.vhost) in down:
                return
            bridge = bound.info.pool.bridge_at(source.vhost)
            for queue in (bound.info.broker, *bound.copies):
                bridge.bind(queue, source.binding)
        except ExchangeMissing:
            state, longest = "missing", MISSING
        except QueueMissing:  # deleted, or about to be: it is created again only when it is read
            bound.info, state = None, ""
        except BrokerRefused as error:
            state, longest = f"refused: {error}", REFUSED
        except BridgeUnavailable:
            down.add(("vhost", bound.info.settings.bridging.source.vhost))
            state, longest = "", FIRST_PAUSE
        except StoreError:
            down.add(SIDE_STORE)
            state, longest = "", FIRST_PAUSE
        except Exception as error:  # one queue's trouble must not stop the others
            state, longest = f"failed: {type(error).__name__}: {error}", REFUSED
        if state not in ("", bound.state):
            level = logging.INFO if state in ("bound", "missing") else logging.WARNING
            LOG.log(level, "queue %s and the exchange that it is bridged to: %s", key, state)
        first = state == "bound" or state != bound.state
        bound.pause = min(AGAIN if state == "bound" else FIRST_PAUSE if first else 2 * bound.pause, longest)
        bound.state, bound.due = state, time.monotonic() + bound.pause

    def _read(self, key: str, bound: Bound) -> bool:
        """Read what a queue is bound to; False if it is none of ours any more."""
        found = self._store.catalogue.get_queue(key)
        info = self._info_of(*split_name(key), found) if found else None
        if info is not None and info.settings.unusable is not None:
            raise ValueError(info.settings.unusable)  # other gateways may be able to
        if info is None or info.settings.binding is None:
            self._store.catalogue.unmark_bridged(key, bound.mark)
            with self._lock:
                if self._bound.get(key) is bound:
                    del self._bound[key]
            return False
        bound.info = info
        if info.notifies:
            bound.copies = [found.copy for found in self._copies.of(info.project, info.name)]
        return True
