"""Logs: oslo.log's options and formats, the id of the request in every line, and no line that somebody else wrote."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from oslo_log import log

from gateway.observe.log_options import check_logging

#: Id of the request that this thread works on; "-" outside of requests.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")

FORMAT = (
    "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s [%(request_id)s] %(instance)s%(message)s"
)

#: Libraries that are chatty about what the gateway handles, and reports itself, anyway.
QUIET = (
    "amqp=ERROR", "kombu=WARNING", "pymongo=WARNING", "waitress=ERROR", "urllib3=WARNING",
    "keystoneauth=WARNING", "keystonemiddleware=WARNING", "stevedore=WARNING",
)


def configure(conf: Any) -> None:
    """Set up logging as ``conf`` says; oslo.log's options must be registered in it.

    Raises ValueError if the log can't go there.
    """
    log.set_defaults(logging_context_format_string=FORMAT, default_log_levels=list(QUIET))
    conf.set_default("logging_default_format_string", FORMAT)
    check_logging(conf)
    try:
        log.setup(conf, "marconi")
    except Exception as error:  # handlers that are configured may raise anything
        raise ValueError(f"the log can't be set up as configured: {error}") from error
    logging.setLogRecordFactory(Record)
    for handler in logging.getLogger().handlers:
        never_fail(handler, lambda line: print(line, file=sys.stderr, flush=True))
        if handler.formatter is not None:
            handler.setFormatter(PrintableLines(handler.formatter))


def never_fail(handler: logging.Handler, instead: Callable[[str], None]) -> None:
    """Have a handler give its lines to ``instead`` while it can't write them, and raise nothing.

    A disk may be full, a folder removed, a terminal closed. logging's handlers raise some of that where a line is
    logged, and print a traceback for each line about the rest.
    """
    emit = handler.emit
    busy = threading.local()

    def failed(record: logging.LogRecord) -> None:
        if getattr(busy, "now", False):  # ``instead`` logs too
            return
        busy.now = True
        try:
            instead(handler.format(record))
        except Exception:  # nosec B110  # there is nobody left to tell
            pass
        finally:
            busy.now = False

    def emit_or_not(record: logging.LogRecord) -> None:
        try:
            emit(record)
        except Exception:
            failed(record)

    handler.emit = emit_or_not  # type: ignore[method-assign]
    handler.handleError = failed  # type: ignore[method-assign]


class Record(logging.LogRecord):
    """A record with the request's id."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.request_id = REQUEST_ID.get()


class PrintableLines(logging.Formatter):
    """A record as another formatter formats it, in one line, followed by the lines of a traceback, which have prefixes.

    Control characters in them, which may come from a request or a message, are escaped.
    """

    def __init__(self, formatter: logging.Formatter):
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        text = self._formatter.format(record)
        if not record.exc_text:
            return printable(text)
        first = text.removesuffix(record.exc_text).removesuffix("\n")
        return "\n".join(printable(line) for line in [first, *record.exc_text.split("\n")])


def printable(text: str) -> str:
    """A text with everything escaped that is no space and can't be seen: line ends, terminal escapes, surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def new_request_id() -> str:
    """An id for a request, as OpenStack services show them."""
    return f"req-{uuid4()}"
