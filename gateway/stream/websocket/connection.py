"""A WebSocket connection: frames in, one request at a time, frames out, and an end for whoever does not keep up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from websockets.frames import CloseCode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.observe.metrics import WEBSOCKETS_CLOSED
from gateway.stream.websocket.authentication import in_time
from gateway.stream.websocket.incoming import Incoming
from gateway.stream.websocket.session import Session
from gateway.stream.websocket.timers import Timers

if TYPE_CHECKING:
    from gateway.stream.websocket.hub import Hub

LOG = logging.getLogger(__name__)

#: The library's own log, which must never show frames: there are tokens in them.
LIBRARY_LOG = logging.getLogger("gateway.stream.websocket.protocol")
LIBRARY_LOG.setLevel(logging.WARNING)

#: Bytes that may wait to be sent before the client counts as slow, and no request is begun.
UNSENT = 64 * 1024

#: Seconds that a client has to close the connection once we have closed our side.
CLOSING = 5.0

#: Seconds until the end of credentials is looked at again, at most.
LOOK = 3600.0

#: Frames between two pings that complete no request: pings, pongs and parts of messages.
IDLE_FRAMES = 10_000

#: Pings without an answer after which the client counts as gone.
MISSES = 2

#: Close codes: the client's credentials have ended (Zaqar's), and those of RFC 6455, 7.4.1 with IANA's list.
EXPIRED = 4003
TOO_SLOW = CloseCode.POLICY_VIOLATION, "The answers and notifications were not read in time."
TRY_AGAIN = CloseCode.TRY_AGAIN_LATER


class Connection(asyncio.BufferedProtocol):
    """Belongs to the thread of the loop. ``accepted``: the answer to the handshake, which is sent first.

    ``ahead``: bytes that the client has sent already; ``gone`` is called once.
    """

    def __init__(self, hub: Hub, accepted: bytes, session: Session, ahead: bytes, gone: Callable[[], None]):
        self._hub = hub
        self._accepted = accepted
        self._protocol = ServerProtocol(state=OPEN, max_size=hub.settings.max_message, logger=LIBRARY_LOG)
        self.session = session
        self.gone = gone
        self._transport: Any = None
        #: Its messages are requests that wait; is one under way?
        self._incoming = Incoming(self._protocol, ahead)
        self._is_serving = False
        self._is_paused = self._is_slow = False
        self._misses = 0
        #: Code and reason of a close that waits for the answer under way.
        self._ending: tuple[int, str] | None = None
        self._timers = Timers()
        #: Bytes that are kept for it: see Hub.account.
        self.held = 0

    # -- the transport ------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT, low=0)
        transport.write(self._accepted)
        self._hub.join(self)
        self._timers.set("ping", self._hub.settings.ping_interval, self._ping)
        self.heed_expiry()
        self._parse()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._hub.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._hub.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._misses = 0
        self._incoming.add(data)
        self._go_on()

    def eof_received(self) -> bool:
        self._incoming.clear()
        self._protocol.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        WEBSOCKETS_CLOSED.labels("silent" if self._misses >= MISSES else _code(self._protocol)).inc()
        self._timers.clear()
        self._transport = None
        self._incoming.clear()
        self._hub.leave(self, self._is_serving)
        self.gone()

    def pause_writing(self) -> None:
        self._is_slow = True
        self._timers.set("slow", self._hub.settings.client_timeout, partial(self.close, *TOO_SLOW))
        self._regulate()

    def resume_writing(self) -> None:
        self._is_slow = False
        self._timers.cancel("slow")
        self._hub.account(self, self._size)
        self._go_on()

    # -- what comes ---------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        """Parse a piece of what has been read, if there is room for requests; the next one in the loop's next turn.

        A client that sends many small frames must not keep the loop from others.
        """
        before = self._incoming.count
        if self._may_parse:
            self._incoming.parse_some()
            self._flush()
            if self._incoming.idle_frames > IDLE_FRAMES:
                self.close(CloseCode.POLICY_VIOLATION, "Too many frames that are no requests.")
        if self._may_parse and "parse" not in self._timers:
            self._timers.set("parse", 0.0, self._go_on)
        if self._transport is not None:
            self._watch_message(self._incoming.count > before)
            self._hub.account(self, self._size)
            self._regulate()
            self._serve()

    @property
    def _may_parse(self) -> bool:
        return self._incoming.has_rest and (self._has_room or not self._is_open)

    @property
    def _has_room(self) -> bool:
        return self._incoming.has_room and not self._is_slow

    @property
    def _is_open(self) -> bool:
        return self._protocol.state is OPEN

    @property
    def _size(self) -> int:
        """Bytes that are kept for it."""
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._incoming.size + int(unsent)

    def _watch_message(self, is_another: bool) -> None:
        """A message has to be complete in time, or it would hold memory for as long as its client likes."""
        if is_another or not self._incoming.is_unfinished:
            self._timers.cancel("message")
        if not self._incoming.is_unfinished:
            return
        if "message" not in self._timers and self._is_open:
            self._timers.set("message", self._hub.settings.client_timeout, self._message_is_late)

    def _message_is_late(self) -> None:
        if self._has_room and not self._incoming.has_rest:  # else it is we who do not read on
            self.close(CloseCode.POLICY_VIOLATION, "A message was not complete in time.")

    def _regulate(self) -> None:
        """Read on only if there is room for more."""
        if self._transport is None or self._transport.is_closing():
            return
        pause = self._incoming.has_rest or (self._is_open and not self._has_room)
        if pause != self._is_paused:
            self._is_paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    # -- requests -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Begin the next request, if none is under way."""
        if self._is_serving or not self._incoming.messages or not self._is_open:
            return
        if self._is_slow or self._ending is not None:
            return
        self._is_serving = True
        data, is_binary = self._incoming.messages.popleft()
        try:
            future = self._hub.serve(self.session, data, is_binary)
        except RuntimeError:  # the process ends
            self._is_serving = False
            self.close(CloseCode.SERVICE_RESTART, "The gateway is being restarted.")
            return
        future.add_done_callback(lambda done: self._answered(done, is_binary))

    def _answered(self, done: asyncio.Future[bytes], is_binary: bool) -> None:
        self._is_serving = False
        if self._transport is None:
            self._hub.forget(self)
            return
        if done.cancelled() or done.exception() is not None:
            if not done.cancelled():
                LOG.error("a request over WebSocket has failed", exc_info=done.exception())
            self.close(CloseCode.INTERNAL_ERROR, "The request could not be answered.")
        elif self._is_open:
            self.send(done.result(), is_binary)
        self.heed_expiry()
        self._hub.settle(self)
        if self._ending is not None:
            self.close(*self._ending)
        self._go_on()

    def _go_on(self) -> None:
        self._parse()
        if self._transport is not None and self.may_push:
            self._hub.push(self)

    # -- what goes ----------------------------------------------------------------------------------------------

    @property
    def may_push(self) -> bool:
        """May a notification be sent now? Not between a request, as far as it has arrived, and its answer."""
        is_busy = self._is_serving or self._is_slow or self._ending is not None or not self._incoming.is_idle
        return self._is_open and self._transport is not None and not is_busy

    @property
    def has_sent_all(self) -> bool:
        """Has the socket taken everything?"""
        return self._transport is not None and self._transport.get_write_buffer_size() == 0

    def send(self, data: bytes, is_binary: bool) -> None:
        """Send a frame; before a notification ``may_push`` was true."""
        (self._protocol.send_binary if is_binary else self._protocol.send_text)(data)
        self._flush()
        self._hub.account(self, self._size)

    def _flush(self) -> None:
        """Send what the protocol wants to be sent."""
        transport = self._transport
        for data in self._protocol.data_to_send():
            if transport is None or transport.is_closing():
                continue
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
        if self._protocol.close_expected() and "closing" not in self._timers and transport is not None:
            self._timers.set("closing", CLOSING, transport.abort)

    # -- its end ------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Close it; the client gets ``CLOSING`` seconds to do the same."""
        if self._is_open and self._transport is not None:
            self._incoming.messages.clear()
            self._protocol.send_close(code, reason)
            self._flush()
            self._regulate()

    def cut(self, code: int, reason: str) -> None:
        """Close it without waiting for the client."""
        self.close(code, reason)
        if self._transport is not None:
            self._transport.abort()

    def close_soon(self, code: int, reason: str) -> None:
        """Close it when the answer under way has been sent."""
        self._incoming.messages.clear()
        if self._is_serving:
            self._ending = self._ending or (code, reason)
        else:
            self.close(code, reason)

    def heed_expiry(self) -> None:
        """Close it when the credentials end."""
        left = in_time(self.session)
        if left <= 0.0:
            self.close_soon(EXPIRED, "The authentication has expired.")
        elif left < float("inf"):
            self._timers.set("expiry", min(left, LOOK), self.heed_expiry)
        else:
            self._timers.cancel("expiry")

    def _ping(self) -> None:
        self._incoming.idle_frames = 0
        if self._misses >= MISSES:
            self._transport.abort()
            return
        if self._is_open:
            self._protocol.send_ping(b"")
            self._flush()
        if not self._is_paused:  # else it is we who do not read the answers
            self._misses += 1
        self._timers.set("ping", self._hub.settings.ping_interval, self._ping)


#: Close codes that metrics tell apart; a client may send any other.
_COUNTED = frozenset((*CloseCode, EXPIRED))


def _code(protocol: ServerProtocol) -> str:
    """The code that the client was given, as metrics have it."""
    code = CloseCode.ABNORMAL_CLOSURE if protocol.close_sent is None else protocol.close_sent.code
    return str(int(code)) if code in _COUNTED else "other"
