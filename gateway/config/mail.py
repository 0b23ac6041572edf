"""What the configuration says about mail."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

#: Scheme of subscribers that get mail.
MAILTO = "mailto"

#: Ways to send mail: a command such as sendmail, or SMTP by the gateway itself.
THIRD_PART, SELF_LOCAL = "third_part", "self_local"

#: How connections to the SMTP server are protected: TLS from the start, by STARTTLS, or not at all; and their ports.
SSL, STARTTLS, NONE = "ssl", "starttls", "none"
PORTS = {SSL: 465, STARTTLS: 587, NONE: 25}

#: A sender's address, which needs neither quotes nor SMTPUTF8 (RFC 5322, 3.2.3).
SENDER_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+\Z")

SENDMAIL = "/usr/sbin/sendmail -t -oi"


@dataclass(frozen=True, slots=True)
class Template:
    """A mail: subject and text, in which ``{0}`` stands for the queue, ``{1}`` for the project and ``{2}`` for a link.

    ``sender``: empty for the one of all mail.
    """

    topic: str
    body: str
    sender: str = ""

    def updated(self, values: Mapping[str, str]) -> Template:
        """With some fields replaced; see mail_faults about unknown ones."""
        known = {name: value for name, value in values.items() if name in self.__dataclass_fields__}
        return replace(self, **known)


#: Without commas and quotes, so that the sample of the configuration is valid as it stands.
CONFIRMATION = Template(
    "Confirm your subscription",
    "Somebody has asked to send you the messages of queue {0} in project {1}. If you do nothing you will not get them."
    " If you want to get them open this link and press the button: {2}",
)
UNSUBSCRIPTION = Template(
    "Your subscription has ended",
    "You will get no more messages of queue {0} in project {1}. If you want to get them again open this link and press"
    " the button: {2}",
)


@dataclass(frozen=True, slots=True)
class MailSettings:
    """Options of [notification] that decide how mail goes. ``timeout`` is in seconds; ``per_hour`` 0: any number.

    ``domains``: those in whose name subscriptions may send, None for any. ``origin``: the host in the ids of mails.
    """

    mode: str = THIRD_PART
    command: str = SENDMAIL
    host: str = ""
    port: int = 0
    security: str = SSL
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: float = 10.0
    sender: str = ""
    domains: tuple[str, ...] | None = None
    per_hour: int = 60
    ca_file: str | None = None
    external_url: str = ""
    public_url: str = ""
    confirmation: Template = CONFIRMATION
    unsubscription: Template = UNSUBSCRIPTION

    @property
    def is_configured(self) -> bool:
        """Has the operator said how to send mail?"""
        return self.mode != THIRD_PART or self.command != SENDMAIL

    @property
    def origin(self) -> str:
        """Host of the public URL, else domain of the sender, else the machine's name."""
        sender = parseaddr(self.sender)[1]
        host = urlsplit(self.public_url).hostname or sender.rpartition("@")[2] or socket.gethostname()
        return f"[IPv6:{host}]" if ":" in host else host

    @property
    def default_sender(self) -> str:
        """Address of the sender where there is no other."""
        return self.sender or f"marconi@{self.origin}"

    @property
    def server(self) -> str:
        """Host and port of the SMTP server, for people."""
        return f"{self.host}:{self.port or PORTS[self.security]}"

    @classmethod
    def from_options(cls, conf: Any) -> MailSettings:
        """From a configuration (oslo.config)."""
        options = conf.notification
        return cls(
            options.smtp_mode, options.smtp_command, options.smtp_host or "", options.smtp_port or 0,
            options.smtp_security, options.smtp_user_name or "", options.smtp_user_password or "",
            options.smtp_timeout, options.smtp_from or "",
            tuple(domain.lower() for domain in options.mail_domains) or None, options.mails_per_hour, options.ca_file,
            options.external_confirmation_url or "", (options.public_url or "").rstrip("/"),
            CONFIRMATION.updated(options.subscription_confirmation_email_template),
            UNSUBSCRIPTION.updated(options.unsubscribe_confirmation_email_template),
        )


def mail_faults(conf: Any) -> list[str]:
    """What can't work in the options about mail, one sentence each."""
    options, found = conf.notification, []
    for name in ("subscription_confirmation_email_template", "unsubscribe_confirmation_email_template"):
        if unknown := sorted(set(options[name]) - set(Template.__dataclass_fields__)):
            found.append(f"[notification] {name} has the unknown keys {', '.join(unknown)}")
    if options.smtp_mode == SELF_LOCAL and not options.smtp_host:
        found.append("[notification] smtp_mode is self_local and smtp_host is unset")
    if options.smtp_mode == THIRD_PART and not options.smtp_command.split():
        found.append("[notification] smtp_command is empty")
    if options.smtp_from and not SENDER_ADDRESS.match(parseaddr(options.smtp_from)[1]):
        found.append("[notification] smtp_from must be a mail address, with or without a name")
    return found
