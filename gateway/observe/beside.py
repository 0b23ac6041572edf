"""What serves beside the main job (metrics, logs, audit, housekeeping, pinning) fails no request and no start.

Whatever calls such a thing does it inside ``with beside("its name"):``, or hands the error to ``failed``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger(__name__)

#: Seconds between two lines about the same thing: what fails once for each request must not fill the log.
SILENCE = 60.0

_said: dict[str, float] = {}


def failed(what: str, error: BaseException) -> None:
    """Log that something beside the main job has failed, at most once in SILENCE seconds."""
    now = time.monotonic()
    if now - _said.get(what, float("-inf")) >= SILENCE:
        _said[what] = now
        LOG.error(
            "%s: %s: %s; the gateway goes on without it (said once in %d s)", what, type(error).__name__, error,
            SILENCE, exc_info=not isinstance(error, OSError) and (type(error), error, error.__traceback__),
        )


@contextmanager
def beside(what: str) -> Iterator[None]:
    """Whatever goes wrong inside is logged, and goes no further."""
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    if failure is not None:  # not inside the except: oslo.log would append the error once more
        failed(what, failure)
