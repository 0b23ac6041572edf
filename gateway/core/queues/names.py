"""What queues are called: in the side-store, and on the broker."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

#: Length limit of an AMQP short string, and so of a queue name on the broker (AMQP 0-9-1, 4.2.5.3).
MAX_BROKER_NAME = 255

#: Project of the queues that a health check creates. No client can name it: a project has no control characters.
HEALTH_PROJECT = "\x00health"


def queue_key(project: str, name: str) -> str:
    """The queue's name in the side-store."""
    return f"{project}/{name}"


def broker_name(project: str, name: str) -> str:
    """The queue's name on the broker: ``marconi.<project>.<queue>``.

    Dots and anything unusual in the project are percent-encoded, so that no two pairs share a name; a project that
    makes it too long is replaced by ``#`` and its hash.
    """
    return _broker_name("marconi", project, name)


def poison_name(project: str, name: str) -> str:
    """The queue on the broker for messages of a queue that can't be shown: ``marconi-poison.<project>.<queue>``."""
    return _broker_name("marconi-poison", project, name)


def _broker_name(prefix: str, project: str, name: str) -> str:
    full = f"{prefix}.{quote(project, safe='').replace('.', '%2E')}.{name}"
    if len(full) > MAX_BROKER_NAME:
        full = f"{prefix}.#{hashlib.sha256(project.encode()).hexdigest()}.{name}"
    return full
