"""Mail by a command such as sendmail, in the mode third_part."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess  # nosec B404  # the command is the operator's

from gateway.notify.mail_message import Mail
from gateway.notify.mail_result import MailResult, failed

LOG = logging.getLogger(__name__)

#: Exit status that means "try again" (EX_TEMPFAIL of sysexits.h).
TRY_AGAIN = 75

#: Class of failures of the command; the other ones are timeouts.
COMMAND = "command"


def send_by_command(command: str, mail: Mail, timeout: float) -> MailResult:
    """Have a command send a mail within ``timeout`` seconds. Blocks.

    The command is split at blanks and run without a shell. It gets the mail on its standard input, with recipients in
    the header To.
    """
    try:
        process = subprocess.Popen(  # nosec B603  # no shell, and nothing of a client's
            command.split(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, IndexError) as error:  # the operator has to see to it, so the mail waits
        LOG.error("[notification] smtp_command can't be run: %s", type(error).__name__)
        return failed(COMMAND, mail.recipients)
    try:
        process.communicate(mail.data(b"\n"), timeout)
    except subprocess.TimeoutExpired:
        LOG.warning("[notification] smtp_command has taken more than %.1f s and is ended", timeout)
        return failed("timeout", mail.recipients)
    finally:
        _end(process)
    status = process.returncode
    if status == 0:
        return MailResult(0, accepted=frozenset(mail.recipients))
    LOG.warning("[notification] smtp_command has failed: exit status %d", status)
    if status == TRY_AGAIN or status < 0:  # a signal ends it when the machine is in need, too
        return failed(COMMAND, mail.recipients)
    return MailResult(0, COMMAND)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command, and whatever it has started, unless it has ended by itself."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
