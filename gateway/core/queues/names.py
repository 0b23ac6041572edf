"""What queues are called: in the side-store, and on the broker."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

#: Length limit of an AMQP short string, and so of a queue name on the broker (AMQP 0-9-1, 4.2.5.3).
MAX_BROKER_NAME = 255

#: Project of the queues that a health check creates. No client can name it: a project has no control characters.
HEALTH_PROJECT = "\x00health"

#: Project of the queues of all who say no project, where the API lets them. No client can name it either.
NAMELESS_PROJECT = "\x00nameless"

#: What comes before a project's name in that of the project that has its topics, which no client can name either.
TOPICS = "\x00topics/"


def topic_project(project: str) -> str:
    """The project in which the topics of a client's project are, so that their names are apart from those of queues."""
    return TOPICS + project


def is_topic_project(project: str) -> bool:
    """Are its queues topics?"""
    return project.startswith(TOPICS)


def kind_of(project: str) -> str:
    """What its clients call a queue of the project: ``queue`` or ``topic``."""
    return "topic" if is_topic_project(project) else "queue"


def titled(project: str, name: str) -> str:
    """A queue at the beginning of a sentence for its clients: ``Queue orders`` or ``Topic prices``."""
    return f"{kind_of(project).capitalize()} {name}"


def client_project(project: str) -> str:
    """The client's project of a project that may be one of topics."""
    return project.removeprefix(TOPICS)


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


def delivery_name(project: str, name: str, subscription: str) -> str:
    """The queue on the broker for what waits for a subscription of a queue: ``marconi.<project>.<queue>.~<id>``.

    No queue of a client has a tilde in its name, so none can be at the same place.
    """
    return _broker_name("marconi", project, f"{name}.~{subscription}")


def _broker_name(prefix: str, project: str, name: str) -> str:
    full = f"{prefix}.{quote(project, safe='').replace('.', '%2E')}.{name}"
    if len(full) > MAX_BROKER_NAME:
        full = f"{prefix}.#{hashlib.sha256(project.encode()).hexdigest()}.{name}"
    return full
