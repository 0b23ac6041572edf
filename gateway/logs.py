"""Logs: oslo.log's options and formats, with the id of the request in every line."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from oslo_log import log

#: Id of the request that this thread works on; "-" outside of requests.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")

FORMAT = (
    "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s [%(request_id)s] %(instance)s%(message)s"
)

#: Libraries that are chatty about what the gateway handles, and reports itself, anyway.
QUIET = ("amqp=ERROR", "kombu=WARNING", "pymongo=WARNING", "waitress=ERROR", "urllib3=WARNING")


def configure(conf: Any) -> None:
    """Set up logging as ``conf`` says; oslo.log's options must be registered in it."""
    log.set_defaults(logging_context_format_string=FORMAT, default_log_levels=list(QUIET))
    conf.set_default("logging_default_format_string", FORMAT)
    log.setup(conf, "marconi")
    make = logging.getLogRecordFactory()

    def with_request_id(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.request_id = REQUEST_ID.get()
        return record

    logging.setLogRecordFactory(with_request_id)


def new_request_id() -> str:
    """An id for a request, as OpenStack services show them."""
    return f"req-{uuid4()}"
