"""Requests that are answered later, and connections that are handed over: no thread of the server waits for either."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel

from gateway.server.application import WSGI

#: Gets the socket of a connection that was handed over, the bytes that have been read from it and belong to no request
#: yet, and a function to be called when the socket has been closed.
Take = Callable[[socket.socket, bytes, Callable[[], None]], None]


class Suspension:
    """A request whose application has returned without an answer. It is answered by ``resume``, from any thread.

    ``environ``: the request's WSGI environment. ``gone`` is called once, in the server's main thread, if the client
    goes away before that; it must not block.
    """

    __slots__ = ("environ", "_application", "_connection", "_gone", "_is_left", "_is_over", "_mutex")

    def __init__(self, connection: SuspendableConnection, environ: dict[str, Any], gone: Callable[[], None]):
        self.environ = environ
        self._application: WSGI | None = None
        self._connection = connection
        self._gone = gone
        self._is_left = self._is_over = False
        self._mutex = threading.Lock()

    def resume(self, application: WSGI) -> bool:
        """Have a thread of the server send what ``application`` answers to the request; it may suspend it again.

        False if that was asked for before, or if the client has gone.
        """
        with self._mutex:
            if self._is_over:
                return False
            self._is_over = True
            self._application = application
            is_left = self._is_left
        if is_left:
            self._connection.server.resume(self._connection)
        return True

    # -- what the server does ----------------------------------------------------------------------------------------

    @property
    def application(self) -> WSGI:
        """What it is resumed with."""
        assert self._application is not None  # nosec B101  # for the type checker
        return self._application

    def leave(self) -> bool:
        """The thread leaves the request; False if it has been resumed already, and the thread is to go on with it."""
        with self._mutex:
            self._is_left = True
            return not self._is_over

    def end(self) -> None:
        """The client has gone."""
        with self._mutex:
            was_over, self._is_over = self._is_over, True
        if not was_over:
            self._gone()


class SuspendableConnection(HTTPChannel):
    """A connection whose request may be suspended, and which may be handed over. See ClientConnection."""

    #: The request's suspension, from the time that it is asked for until a thread goes on with it.
    suspension: Suspension | None = None

    #: Who gets the socket when the thread is done.
    _take: Take | None = None

    ahead: bytes
    socket: Any

    # -- what the main thread does -----------------------------------------------------------------------------------

    def handle_close(self) -> None:
        super().handle_close()
        self.server.suspended.discard(self)
        if self.suspension is not None:
            self.suspension.end()

    @property
    def has_gone(self) -> bool:
        """Has the client of a suspended request ended the connection, or its side of it?"""
        if self.suspension is None:
            return False
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def give_away(self) -> None:
        """Hand over the socket, which the server then knows no more."""
        take, ahead, token = self._take, self.ahead, object()
        sock, elsewhere = self.socket, self.server.elsewhere
        if take is None or sock is None:  # closed meanwhile
            return
        self.del_channel()
        self.socket, self.connected, self.ahead = None, False, b""
        elsewhere.add(token)
        take(sock, ahead, lambda: elsewhere.discard(token))

    # -- what a thread does ------------------------------------------------------------------------------------------

    def suspend(self, environ: dict[str, Any], gone: Callable[[], None]) -> Suspension | None:
        """Let the application return without an answer, which is given later: see Suspension.

        None if too many requests are suspended, or the client has gone: then the application is to answer now.
        """
        if not self.connected or not self.server.has_room_to_wait:
            return None
        self.server.suspended.add(self)
        self.suspension = Suspension(self, environ, gone)
        return self.suspension

    def hand_over(self, take: Take) -> bool:
        """Let the application return without an answer, and call ``take`` in the main thread; it must not block.

        It is not called if the client goes away before. False if too many connections have been handed over: then the
        application is to answer.
        """
        if not self.server.has_room_to_wait:
            return False
        self._take = take
        return True

    @property
    def is_given_away(self) -> bool:
        """Has the application had the connection handed over?"""
        return self._take is not None

    @property
    def is_left_open(self) -> bool:
        """Does the application give no answer now?"""
        return self.suspension is not None or self.is_given_away
