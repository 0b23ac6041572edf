"""The audit log, who did what: a JSON object in a line for each call that changes something or is refused."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import Any

import orjson

from gateway.environ import CALLER, SIGNED, sent_path
from gateway.observe.beside import beside
from gateway.observe.logs import never_fail

LOG = logging.getLogger(__name__)

#: Statuses of calls that the caller may not make, which are recorded whatever they would have done.
REFUSED = (401, 403)

READS = ("GET", "HEAD")


def check_file(file: str) -> None:
    """Raises OSError if it can't be written to."""
    open(file, "ab").close()


class AuditLog:
    """Appends to ``[audit] file``, also when it has been moved away by logrotate; all workers write to the same.

    What can't be written there is in the log instead: no request and no start fails because of it.
    """

    def __init__(self, options: Any):
        """``options``: the section [audit]."""
        self._reads = options.reads
        self._handler = WatchedFileHandler(options.file, encoding="utf-8", errors="backslashreplace", delay=True)
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        never_fail(self._handler, lambda line: LOG.error("%s can't be written to: %s", options.file, line))
        with beside("[audit] file"):
            check_file(options.file)

    def record(self, environ: dict[str, Any], action: str, status: int, request_id: str) -> None:
        """One call: ``action`` is the policy's rule for it, or method and route where there is none."""
        method = environ["REQUEST_METHOD"]
        if method in READS and status not in REFUSED and not self._reads:
            return
        identity, project = environ.get(CALLER, (None, None))
        line = orjson.dumps({
            "time": datetime.now(UTC),
            "request_id": request_id,
            "address": environ.get("REMOTE_ADDR"),
            "user": identity.user if identity else None,
            "roles": identity.roles if identity else (),
            "project": project,
            "signed": SIGNED in environ,
            "client": environ.get("HTTP_CLIENT_ID"),
            "action": action,
            "method": method,
            "path": sent_path(environ),
            "status": status,
        }).decode()
        self._handler.handle(logging.LogRecord("marconi.audit", logging.INFO, "", 0, line, None, None))
