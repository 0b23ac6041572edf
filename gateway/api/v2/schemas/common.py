"""Parts of many bodies."""

from __future__ import annotations

from gateway.api.openapi.schema import Schema, constant, integer, list_of, or_null, record, text, time
from gateway.core.queues.metadata import QUEUE_NAME
from gateway.web.operations import Reply

#: Header of answers that say where something is.
LOCATION = "Location"

QUEUE = text(
    "Name of a queue: 1 to 64 characters of A-Z a-z 0-9 _ - ., and not . or ..", pattern=QUEUE_NAME.pattern,
    example="orders",
)

#: Count of anything.
COUNT = integer(at_least=0)

AGE = integer("Seconds since it was created.", at_least=0)

TIME = time()
TIME_OR_NULL = or_null(time())

LINKS = list_of(
    record("Link", "Where the next page is.", {
        "rel": constant("next"),
        "href": text("The path and query to get it with."),
    }),
    "The next page; empty if this one is.", at_most=1,
)


def page(name: str, description: str, key: str, item: Schema, **more: Schema) -> Schema:
    """A page of a list: the items under ``key``, and the link to the next page."""
    return record(name, description, {key: list_of(item), "links": LINKS, **more})


DONE = {204: Reply("It is done.")}

#: What is done to something that has a place, which the answer names.
DONE_AT = {204: Reply("It is done.", headers=(LOCATION,))}

#: Asks whether something is there.
THERE = {204: Reply("It exists.")}
