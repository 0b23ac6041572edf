"""A WebSocket connection: frames in, one request at a time, frames out, and an end for whoever does not keep up."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.observe.metrics import WEBSOCKETS_CLOSED
from gateway.stream.websocket.authentication import in_time
from gateway.stream.websocket.session import Session

if TYPE_CHECKING:
    from gateway.stream.websocket.hub import Hub

LOG = logging.getLogger(__name__)

#: The library's own log, which must never show frames: there are tokens in them.
LIBRARY_LOG = logging.getLogger("gateway.stream.websocket.protocol")
LIBRARY_LOG.setLevel(logging.WARNING)

#: Requests ahead of the one under way, after which reading pauses.
AHEAD = 16

#: Bytes that are parsed at once: they are few thousand frames at most.
PIECE = 4096

#: Bytes that may wait to be sent before the client counts as slow, and no request is begun.
UNSENT = 64 * 1024

#: Seconds that a client has to close the connection once we have closed our side.
CLOSING = 5.0

#: Seconds until the end of credentials is looked at again, at most.
LOOK = 3600.0

#: Pings without an answer after which the client counts as gone.
MISSES = 2

#: Close codes: the client's credentials have ended (Zaqar's), and those of RFC 6455, 7.4.1 with IANA's list.
EXPIRED = 4003
TRY_AGAIN = CloseCode.TRY_AGAIN_LATER

Message = tuple[bytes, bool]


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
        #: What has been read and not been parsed yet, and the message that is being received.
        self._raw = bytearray(ahead)
        self._message: bytearray | None = None
        self._is_binary = False
        #: Complete requests that wait; is one under way?
        self._requests: deque[Message] = deque()
        self._is_serving = False
        self._is_paused = self._is_slow = False
        self._misses = 0
        #: Code and reason of a close that waits for the answer under way.
        self._ending: tuple[int, str] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        #: Bytes that are kept for it: see Hub.account.
        self.held = 0

    # -- the transport ------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT, low=0)
        transport.write(self._accepted)
        self._hub.join(self)
        self._later("ping", self._hub.settings.ping_interval, self._ping)
        self.heed_expiry()
        self._parse()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._hub.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._hub.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._misses = 0
        self._raw += data
        self._go_on()

    def eof_received(self) -> bool:
        self._raw.clear()
        self._protocol.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        WEBSOCKETS_CLOSED.labels("silent" if self._misses >= MISSES else self._close_code).inc()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._transport = None
        self._raw.clear()
        self._requests.clear()
        self._message = None
        self._hub.leave(self, self._is_serving)
        self.gone()

    def pause_writing(self) -> None:
        self._is_slow = True
        self._later("slow", self._hub.settings.client_timeout, self._too_slow)
        self._regulate()

    def resume_writing(self) -> None:
        self._is_slow = False
        self._cancel("slow")
        self._hub.account(self, self._size)
        self._go_on()

    @property
    def _close_code(self) -> str:
        """The code that the client was given, as metrics have it."""
        sent = self._protocol.close_sent
        code = CloseCode.ABNORMAL_CLOSURE if sent is None else sent.code
        return str(int(code)) if code in _COUNTED else "other"

    def _too_slow(self) -> None:
        self.close(CloseCode.POLICY_VIOLATION, "The answers and notifications were not read in time.")

    # -- what comes ---------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        """Parse what has been read, as far as there is room for requests."""
        while self._raw and (self._has_room or not self._is_open):
            piece = bytes(self._raw[:PIECE])
            del self._raw[:PIECE]
            self._protocol.receive_data(piece)
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._take(event)
            self._flush()
        if self._transport is not None:
            self._watch_message()
            self._hub.account(self, self._size)
            self._regulate()
            self._serve()

    @property
    def _has_room(self) -> bool:
        return len(self._requests) < AHEAD and not self._is_slow

    @property
    def _is_open(self) -> bool:
        return self._protocol.state is OPEN

    @property
    def _size(self) -> int:
        """Bytes that are kept for it."""
        waiting = sum(len(data) for data, _ in self._requests)
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return len(self._raw) + self._unfinished + waiting + unsent

    @property
    def _unfinished(self) -> int:
        """Bytes of a message whose end has not come yet."""
        return len(self._protocol.reader.buffer) + (len(self._message) if self._message is not None else 0)

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_binary = frame.opcode is Opcode.BINARY
            self._message = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._message is not None:
            self._message += frame.data
        else:  # the protocol itself answers pings and closes
            return
        if frame.fin and self._message is not None:
            message, self._message = bytes(self._message), None
            self._complete(message)

    def _complete(self, message: bytes) -> None:
        self._cancel("message")
        if not self._is_open or self._ending is not None:
            return
        if not self._is_binary:
            try:
                message.decode()
            except UnicodeDecodeError as error:
                self._protocol.fail(CloseCode.INVALID_DATA, f"{error.reason} at position {error.start}")
                return
        self._requests.append((message, self._is_binary))

    def _watch_message(self) -> None:
        """A message has to be complete in time, or it would hold memory for as long as its client likes."""
        if not (self._message is not None or self._unfinished):
            self._cancel("message")
        elif "message" not in self._timers and self._is_open:
            self._later("message", self._hub.settings.client_timeout, self._message_is_late)

    def _message_is_late(self) -> None:
        self._timers.pop("message", None)
        if self._has_room and not self._raw:  # else it is we who do not read on
            self.close(CloseCode.POLICY_VIOLATION, "A message was not complete in time.")

    def _regulate(self) -> None:
        """Read on only if there is room for more."""
        if self._transport is None or self._transport.is_closing():
            return
        pause = bool(self._raw) or (self._is_open and not self._has_room)
        if pause != self._is_paused:
            self._is_paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    # -- requests -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Begin the next request, if none is under way."""
        if self._is_serving or not self._requests or not self._is_open or self._is_slow or self._ending is not None:
            return
        self._is_serving = True
        data, is_binary = self._requests.popleft()
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
            self._write(done.result(), is_binary)
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
        return not (
            self._is_serving or self._requests or self._raw or self._message is not None or self._unfinished
            or self._is_slow or self._ending is not None
        ) and self._is_open and self._transport is not None

    @property
    def has_sent_all(self) -> bool:
        """Has the socket taken everything?"""
        return self._transport is not None and self._transport.get_write_buffer_size() == 0

    def push(self, data: bytes, is_binary: bool) -> None:
        """Send a notification; ``may_push`` was true."""
        self._write(data, is_binary)
        self._hub.account(self, self._size)

    def _write(self, data: bytes, is_binary: bool) -> None:
        (self._protocol.send_binary if is_binary else self._protocol.send_text)(data)
        self._flush()

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
            self._later("closing", CLOSING, transport.abort)

    # -- its end ------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Close it; the client gets ``CLOSING`` seconds to do the same."""
        if self._is_open and self._transport is not None:
            self._requests.clear()
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
        self._requests.clear()
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
            self._later("expiry", min(left, LOOK), self.heed_expiry)
        else:
            self._cancel("expiry")

    def _ping(self) -> None:
        if self._misses >= MISSES:
            self._transport.abort()
            return
        if self._is_open:
            self._protocol.send_ping(b"")
            self._flush()
        if not self._is_paused:  # else it is we who do not read the answers
            self._misses += 1
        self._later("ping", self._hub.settings.ping_interval, self._ping)

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


#: Close codes that metrics tell apart; a client may send any other.
_COUNTED = frozenset((*CloseCode, EXPIRED))
