"""A client's connection: one request at a time, and no thread that waits for the client."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import selectors
import socket
import struct
import time
from typing import Any

from waitress.buffers import OverflowableBuffer, ReadOnlyFileBasedBuffer
from waitress.utilities import InternalServerError

from gateway.observe import metrics
from gateway.server.errors import RequestTimeout, ServiceUnavailable
from gateway.server.parser import Parser
from gateway.server.suspending import SuspendableConnection
from gateway.server.tasks import ApplicationErrorTask, ResumedTask, Task

LOG = logging.getLogger(__name__)

#: close() with this as SO_LINGER resets the connection and frees what the kernel still has to send.
RESET = struct.pack("ii", 1, 0)

#: What the system says of a client that has gone: as waitress has it.
DISCONNECTED = frozenset({
    errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN, errno.ECONNABORTED, errno.EPIPE, errno.EBADF,
})


class ClientConnection(SuspendableConnection):
    """A client's connection: one request at a time, whatever the client sends ahead.

    waitress parses all that arrives in one read, and blocks a thread when the client does not take the answers. Here
    the next request is parsed when the answer to the one before has been sent, so a thread never waits for a client.

    A thread works on a connection only while it has ``requests``; after that the thread only sends the answer, under
    ``outbuf_lock``. At all other times the connection belongs to the main thread.

    In waitress a thread wakes the main thread after each answer, to have the connection watched again. Here the
    connection stays watched while a thread works on it, as clients seldom send before they have their answer. A
    connection on which the client does that is ``parked``: it is not watched until the thread is done.

    A request may be suspended: it stays in ``requests``, and the connection is watched for its end, but no thread works
    on it until it is resumed. A connection may also be handed over to whoever speaks another protocol on its socket.

    waitress calls such an object a channel, and its attributes keep waitress' names.
    """

    task_class = Task
    error_task_class = ApplicationErrorTask
    parser_class = Parser

    #: Bytes that follow the present request: no more than one read brings.
    ahead = b""

    #: The events that the selector watches it for: EVENT_READ, EVENT_WRITE or 0.
    watched = 0

    #: True if the client has sent something while a thread works: not watched until the thread is done.
    parked = False

    request: Any
    requests: list[Any]
    sent_continue: bool

    def __init__(self, *args: Any, **kwargs: Any):
        #: When the present state began: idle, receiving a request, waiting for a thread, sending an answer.
        self.since = time.monotonic()
        self._answer: list[bytes] = []
        super().__init__(*args, **kwargs)

    # -- what the main thread does -----------------------------------------------------------------------------------

    def add_channel(self, map: Any = None) -> None:
        super().add_channel(map)
        self.server.watch(self, selectors.EVENT_READ)

    def del_channel(self, map: Any = None) -> None:
        self.server.watch(self, 0)
        super().del_channel(map)

    def recv(self, buffer_size: int) -> bytes:
        data = b""
        try:
            data = self.server.sockets.receive(self.socket)
        except OSError as error:
            if error.errno not in DISCONNECTED:
                raise
        if not data:
            self.handle_close()
        return data

    def park(self) -> bool:
        """Stop watching it until its thread is done; False if no thread works on it any more."""
        with self.requests_lock:
            self.parked = bool(self.requests)
        return self.parked

    def readable(self) -> bool:
        return not (
            self.requests or self.ahead or self.total_outbufs_len or self.will_close or self.close_when_flushed
        )

    def writable(self) -> bool:
        if self.total_outbufs_len or self.will_close or self.close_when_flushed:
            return True
        return bool(self.ahead and not self.requests)

    def handle_write(self) -> None:
        super().handle_write()
        if self.ahead and self.connected and not self.requests and not self.total_outbufs_len:
            self.received(b"")

    def received(self, data: bytes) -> None:
        """Parse what has arrived, up to the end of the first request, and have a thread serve that request."""
        self.server.received += len(data)
        with self.requests_lock:
            if self.will_close or self.close_when_flushed:
                return
            data = self.ahead + data
            while data and not self.requests:
                if self.request is None:
                    self.request = self.parser_class(self.adj)
                    self.since = time.monotonic()
                request = self.request
                data = data[request.received(data):]
                if request.expect_continue and not (request.completed or self.sent_continue):
                    self.send_continue()
                if request.completed:
                    self.sent_continue = False
                    self.request = None
                    if not request.empty:
                        self.requests.append(request)
                elif data:  # long to parse: other connections first
                    break
            self.ahead = data
        if self.requests:
            self.since = time.monotonic()
            if self.requests[0].error:
                self.service()
            elif not self.server.task_dispatcher.offer(self):
                self.refuse("full", "The gateway has more requests than it can serve now; try again.")

    def refuse(self, reason: str, description: str) -> None:
        """Answer 503 to the complete request, which no thread may be serving."""
        metrics.REFUSED.labels(reason).inc()
        self.server.refused += 1
        self.requests[0].error = ServiceUnavailable(description)
        self.service()

    def give_up(self) -> None:
        """Answer 408 to a request whose rest has not arrived in time."""
        metrics.CLOSED.labels("slow_request").inc()
        self.request.error = RequestTimeout("The request did not arrive in time.")
        self.requests.append(self.request)
        self.request = None
        self.service()

    def abort(self, reason: str) -> None:
        """Reset the connection. ``will_close`` would first wait for the client to read."""
        metrics.CLOSED.labels(reason).inc()
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.handle_close()

    def close_if_silent(self) -> None:
        """Close an idle connection, unless the next request has just arrived."""
        if not self.unread:
            self.handle_close()

    @property
    def unread(self) -> bool:
        """Has something arrived that has not been read yet?"""
        try:
            return self.socket.recv(1, socket.MSG_PEEK) != b""
        except OSError:  # nothing to read, or the client has gone
            return False

    @property
    def idle(self) -> bool:
        """Is there neither a request, complete or not, nor an answer that is being sent?"""
        return not (self.requests or self.request or self.ahead or self.total_outbufs_len)

    @property
    def buffered(self) -> int:
        """Bytes kept for this connection: of an incomplete request, of what follows it, and of an answer."""
        total: int = self.total_outbufs_len + len(self.ahead)
        if self.request:
            total += self.request.buffered
        return total

    # -- what a thread does ------------------------------------------------------------------------------------------

    def service(self) -> None:
        """Serve the request, and send the answer; or leave it suspended, or the connection to be handed over."""
        (request,) = self.requests
        while True:
            is_new = self.suspension is None and not request.error
            task = self.task_class(self, request) if is_new else self._next_task(request)
            try:
                task.service()
            except Exception:  # the application answers its exceptions itself
                LOG.exception("serving %s failed", request.path)
                request.error = InternalServerError("The server encountered an unexpected internal server error")
                self._answer.clear()
                task = self._next_task(request)
                task.service()
            if self.suspension is None:
                break
            parked = self.parked
            if self.suspension.leave():  # another thread may go on with the request at once
                if parked:
                    self.server.attend(self)
                return
        if self._take is not None:
            self.server.attend(self)
        else:
            request.close()
            self._send_answer(task.close_on_finish)

    def _next_task(self, request: Any) -> Any:
        suspension, self.suspension, self._take = self.suspension, None, None
        self.server.suspended.discard(self)
        if request.error:
            return self.error_task_class(self, request)
        return self.task_class(self, request) if suspension is None else ResumedTask(self, request, suspension)

    def write_soon(self, data: bytes) -> int:
        """Keep a part of the answer until it is complete: it goes out in one write."""
        self._answer.append(data)
        return len(data)

    def _send_answer(self, close: bool) -> None:
        """Send as much of the answer as the client takes; the main thread sends the rest."""
        answer = b"".join(self._answer)
        self._answer.clear()
        with self.outbuf_lock:
            self.since = time.monotonic()
            with self.requests_lock:
                self.close_when_flushed = close
                # Before it is sent: the client's next request may arrive before this thread goes on. The thread that
                # serves that request waits for outbuf_lock.
                self.requests = []
                parked = self.parked
            if self.connected:
                sent = self._sent_at_once(answer)
                if sent < len(answer):
                    rest = io.BytesIO(answer)  # which copies nothing, nor does what follows
                    rest.seek(sent)
                    buffer = ReadOnlyFileBasedBuffer(rest)
                    self.total_outbufs_len += buffer.prepare()
                    # The last one must be one that can be written to.
                    self.outbufs += [buffer, OverflowableBuffer(self.adj.outbuf_overflow)]
        if parked or close or self.ahead or self.total_outbufs_len:
            self.server.attend(self)

    def _sent_at_once(self, data: bytes) -> int:
        """Bytes that the client takes now."""
        if self.total_outbufs_len:
            return 0
        try:
            return self.server.sockets.send(self.socket, data)
        except OSError:  # it takes none now, or has gone: the main thread will see
            return 0
