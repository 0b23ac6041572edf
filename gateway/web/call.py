"""A request over HTTP to an operation, after it was admitted: its query and its body."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Request

from gateway.core.errors import InvalidInput
from gateway.environ import base_of
from gateway.web import body, query
from gateway.web.context import Context
from gateway.web.errors import UnsupportedCoding
from gateway.web.version import V2, Version

#: Longest header or query string, in characters, of which the meaning is cached: longer ones would fill the memory.
MAX_CACHED = 256

#: How many places of the service we cache documents for. There is one, unless the application is mounted several times.
PLACES = 16

JSON = "application/json"
JSON_HOME = "application/json-home"
FEED = "text/event-stream"
FORM = "application/x-www-form-urlencoded"


@dataclass(slots=True)
class Call(Context):
    """A Context with the HTTP request that it came with. ``is_feed``: a live feed is to be the answer."""

    request: Request
    version: Version = V2
    is_feed: bool = False

    @property
    def base(self) -> str:
        """What comes before ``/v2`` in links."""
        return base_of(self.request.environ)

    @property
    def root(self) -> str:
        """What links begin with, like ``/v2``."""
        return base_of(self.request.environ) + self.version.root

    @property
    def args(self) -> MultiDict[str, str]:
        """The parameters in the query string. Not to be changed: calls with the same query share them."""
        text = self.request.environ.get("QUERY_STRING", "")
        return (_args if len(text) <= MAX_CACHED else parse_args)(text)

    @property
    def content_type(self) -> str | None:
        """The Content-Type header as it was sent."""
        return self.request.headers.get("Content-Type")

    def body(self) -> bytes:
        """The request's body as it was sent. Raises InvalidInput and UnsupportedCoding."""
        coding = self.request.environ.get("HTTP_CONTENT_ENCODING")
        data = self.request.get_data(cache=False)
        if coding is not None and data:
            _check_coding(coding)
        if data and self.request.mimetype == FORM:
            raise InvalidInput(f"Send JSON with Content-Type: {JSON}", "Invalid Content-Type")
        return data

    def document(self) -> dict[str, Any]:
        """The body as a JSON object; empty without a body. Raises InvalidInput and UnsupportedCoding."""
        return body.parse_optional_object(self.body())


def _check_coding(coding: str) -> None:
    if any(word.strip(" \t") not in ("identity", "") for word in coding.lower().split(",")):
        raise UnsupportedCoding("Send the body as it is, without Content-Encoding: this service inflates none")


def parse_args(text: str) -> MultiDict[str, str]:
    """A query string, as werkzeug reads it. Raises InvalidInput."""
    try:
        return Request({"QUERY_STRING": text}, populate_request=False).args
    except UnicodeDecodeError as error:  # bytes that should have been percent-encoded
        raise InvalidInput("The query string is not UTF-8", query.TITLE) from error


_args = lru_cache(maxsize=4096)(parse_args)
