"""A mail server that keeps what it gets, and answers as a test wants."""

import email
import email.policy
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from functional.services.certificates import Pair
from functional.services.ports import free_port

USER, PASSWORD = "gateway", "p@ss $x"

#: Seconds that a test waits for a mail.
PATIENCE = 20.0


@dataclass(frozen=True)
class Received:
    """A mail as it came: the envelope, and the message as it was sent."""

    sender: str
    recipients: list[str]
    data: bytes
    at: float
    user: bytes | None

    @property
    def message(self) -> EmailMessage:
        message = email.message_from_bytes(self.data, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message

    @property
    def text(self) -> str:
        return str(self.message.get_content()).replace("\r\n", "\n").removesuffix("\n")


class MailServer:
    """Takes mail on 127.0.0.1. ``security``: as in [notification] smtp_security; ``login``: is one required.

    ``on_recipient``, ``on_data``: replies for a recipient and for a mail, such as "450 later".
    """

    def __init__(self, security: str = "none", pair: Pair | None = None, login: bool = False, **options: Any):
        self.mails: list[Received] = []
        self.attempts = 0
        self.on_recipient: Callable[[str], str] = lambda address: "250 OK"
        self.on_data: Callable[[], str] = lambda: "250 OK"
        context = None
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
        if security == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
        if login:
            options |= {
                "authenticator": self._authenticate, "auth_required": True, "auth_require_tls": security == "starttls",
            }
        self.port = free_port()
        self._controller = Controller(
            self, "127.0.0.1", self.port, ssl_context=context if security == "ssl" else None,
            **{"enable_SMTPUTF8": True} | options,
        )

    def __enter__(self) -> "MailServer":
        self._controller.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._controller.stop()

    @staticmethod
    def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=right, auth_data=data)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        """Called by aiosmtpd."""
        reply = self.on_recipient(address)
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Called by aiosmtpd."""
        self.attempts += 1
        reply = self.on_data()
        if reply.startswith("2"):
            user = session.auth_data.login if session.auth_data else None
            mail = Received(envelope.mail_from, list(envelope.rcpt_tos), envelope.content, time.monotonic(), user)
            self.mails.append(mail)
        return reply

    def wait(self, count: int = 1) -> list[Received]:
        """The first mails, once there are so many."""
        deadline = time.monotonic() + PATIENCE
        while len(self.mails) < count:
            assert time.monotonic() < deadline, f"{len(self.mails)} mails have come, not {count}"
            time.sleep(0.01)
        return self.mails[:count]
