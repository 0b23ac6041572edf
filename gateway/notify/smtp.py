"""Mail by SMTP (RFC 5321), in the mode self_local: one connection for each mail, and one deadline for all of it."""

from __future__ import annotations

import contextlib
import logging
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gateway.config.mail import PORTS, SSL, STARTTLS, MailSettings
from gateway.notify.mail_message import Mail
from gateway.notify.mail_result import MailResult, failed

LOG = logging.getLogger(__name__)

#: Bytes of all replies on a connection.
LARGEST = 1024 * 1024
PIECE = 4096

#: Seconds for a server to say goodbye.
GOODBYE = 1.0

#: Replies that a server takes a recipient with (RFC 5321, 3.3).
TAKEN = (250, 251)


class Unreachable(Exception):
    """The server can't be used now. The text is for the operator; ``reason`` is a class of failures for all."""

    def __init__(self, reason: str, text: str, status: int = 0):
        super().__init__(text)
        self.reason = reason
        self.status = status


class Connection(smtplib.SMTP):
    """To the server of the settings, within their timeout; it may be used until that is over."""

    def __init__(self, settings: MailSettings):
        """Connect. Raises what smtplib, ssl and sockets raise; better use ``connect``."""
        self._deadline = time.monotonic() + settings.timeout
        self._settings = settings
        name = socket.gethostname()
        super().__init__(
            settings.host, settings.port or PORTS[settings.security], name if "." in name else "[127.0.0.1]",
            settings.timeout,
        )

    def log_in(self) -> None:
        """Protect the connection and log in as the settings say. Raises what smtplib and ssl raise."""
        if self._settings.security == STARTTLS:
            self.ehlo_or_helo_if_needed()
            if self.sock is not None:
                self.sock.settimeout(self._left())
            self.starttls(context=_tls(self._settings.ca_file))
        self.ehlo_or_helo_if_needed()
        if self._settings.user:
            self.login(self._settings.user, self._settings.password)

    def goodbye(self) -> None:
        """Close the connection, whatever state it is in."""
        self._deadline = min(self._deadline, time.monotonic() + GOODBYE)
        with contextlib.suppress(smtplib.SMTPException, OSError):
            if self.sock is not None:
                self.quit()
        self.close()

    @property
    def is_late(self) -> bool:
        """Has the time run out?"""
        return time.monotonic() >= self._deadline

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time has run out")
        return left

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """As in smtplib, where each address may take ``timeout``."""
        failure = OSError("the name has no address")
        places = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(places):
            found = socket.socket(family, kind, protocol)
            try:
                found.settimeout(self._left() / (len(places) - number))  # one that does not answer takes its share
                found.connect(address)
                if self._settings.security == SSL:
                    found.settimeout(self._left())
                    return _tls(self._settings.ca_file).wrap_socket(found, server_hostname=host)
                return found
            except OSError as error:
                found.close()
                failure = error
        raise failure

    def send(self, s: Any) -> None:
        """As in smtplib, within the deadline."""
        if self.sock is not None:
            self.sock.settimeout(self._left())
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        """As in smtplib, within the deadline."""
        if self.file is None and self.sock is not None:
            self.file = _Replies(self.sock, self._left)
        return super().getreply()


class _Replies:
    """The lines of a server, as a file; the time for all of them is what ``left`` says (s)."""

    def __init__(self, connection: socket.socket, left: Callable[[], float]):
        self._connection = connection
        self._left = left
        self._buffer = b""
        self._size = 0

    def readline(self, most: int) -> bytes:
        """A line, of ``most`` bytes if it is longer; nothing at the end."""
        while (end := self._buffer.find(b"\n") + 1) == 0 and len(self._buffer) < most:
            self._connection.settimeout(self._left())
            piece = self._connection.recv(PIECE)
            self._size += len(piece)
            if self._size > LARGEST:
                raise OSError("the server has said too much")
            if not piece:
                end = len(self._buffer)
                break
            self._buffer += piece
        end = min(end or most, most)
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return line

    def close(self) -> None:
        """The socket is closed by its owner."""


def connect(settings: MailSettings) -> Connection:
    """A connection that mail can be sent over. Blocks. Raises Unreachable."""
    deadline = time.monotonic() + settings.timeout
    connection = None
    try:
        connection = Connection(settings)
        connection.log_in()
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        if connection is not None:
            connection.close()
        failure = _failure(error, time.monotonic() >= deadline)
    else:
        return connection
    raise failure  # not inside the except: its traceback has the login


def _failure(error: Exception, is_late: bool) -> Unreachable:
    if is_late or isinstance(error, TimeoutError):
        return Unreachable("timeout", "it did not answer in time")
    if isinstance(error, (smtplib.SMTPAuthenticationError, UnicodeError)):
        return Unreachable("login", "the login was refused", getattr(error, "smtp_code", 0))
    if isinstance(error, ssl.SSLError):
        return Unreachable("tls", f"TLS: {getattr(error, 'verify_message', '') or error.reason or 'it has failed'}")
    if isinstance(error, socket.gaierror):
        return Unreachable("dns", "its name can't be resolved")
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Unreachable("smtp", "it does not offer STARTTLS or a login, which the settings ask for")
    if isinstance(error, smtplib.SMTPResponseException):
        return Unreachable("smtp", f"it refuses the connection: {error.smtp_code}", error.smtp_code)
    return Unreachable("connection", "the connection has failed")


def send_by_smtp(settings: MailSettings, mail: Mail, may_begin: Callable[[], bool]) -> MailResult | None:
    """Send a mail. Blocks for the settings' timeout at most. None if ``may_begin`` becomes false before that."""
    try:
        connection = connect(settings)
    except Unreachable as error:
        LOG.warning("SMTP server %s: %s", settings.server, error)
        return failed(error.reason, mail.recipients, error.status)
    try:
        if not may_begin():
            return None
        return _deliver(connection, mail)
    except (smtplib.SMTPServerDisconnected, OSError):
        return failed("timeout" if connection.is_late else "connection", mail.recipients)
    finally:
        connection.goodbye()


def _deliver(connection: Connection, mail: Mail) -> MailResult:
    data = mail.data()
    options = [f"SIZE={len(data)}"] if connection.has_extn("size") else []
    if mail.is_international:
        if not connection.has_extn("smtputf8"):
            return MailResult(0, "address")
        options += ["SMTPUTF8", "BODY=8BITMIME"]
    status, _ = connection.mail(mail.sender, options)
    if status != 250:
        return _refused(status, mail.recipients)
    replies = {recipient: connection.rcpt(recipient)[0] for recipient in mail.recipients}
    taken = [recipient for recipient, reply in replies.items() if reply in TAKEN]
    deferred = frozenset(recipient for recipient, reply in replies.items() if reply not in TAKEN and reply < 500)
    if not taken:
        worst = min(replies.values())
        return MailResult(worst, _reason(worst), deferred=deferred)
    try:
        status, _ = connection.data(data)
    except smtplib.SMTPDataError as error:
        status = error.smtp_code
    if status != 250:
        result = _refused(status, taken)
        return MailResult(status, result.reason, deferred=result.deferred | deferred)
    if len(taken) < len(replies):
        LOG.warning("SMTP server: %d of %d recipients of a mail were refused", len(replies) - len(taken), len(replies))
    worst = min(reply for reply in replies.values() if reply not in TAKEN) if deferred else status
    return MailResult(worst, _reason(worst) if deferred else "", frozenset(taken), deferred)


def _refused(status: int, recipients: Any) -> MailResult:
    """4xx may be tried again, and so may what no server should say; 5xx not (RFC 5321, 4.2.1)."""
    if status >= 500:
        return MailResult(status, _reason(status))
    return failed(_reason(status), recipients, status)


def _reason(status: int) -> str:
    return "refused" if status >= 500 else "deferred"


@lru_cache(maxsize=4)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
