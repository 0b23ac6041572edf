"""Follows a queue of a Marconi: prints each message as a line of JSON, and goes on wherever its feed was cut off.

    python feed.py http://127.0.0.1:8888 orders --project demo --state orders.marker

With --state the place in the queue outlives this program. It needs nothing but Python's standard library.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

#: Seconds without a sign of life after which a feed is dead: three of the service's [stream] keep_alive.
SILENCE = 45.0

#: Seconds to wait before a feed is opened again, until the service has said how many.
RETRY = 2.0


class Feed:
    """The messages of a queue, one after the other, without an end. ``marker``: that of the message seen last."""

    def __init__(self, url: str, queue: str, headers: dict[str, str], marker: str | None = None):
        self.marker = marker
        self._url = f"{url}/v2/queues/{quote(queue)}/messages?echo=true"
        self._headers = {"Accept": "text/event-stream", **headers}
        self._retry = RETRY

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises HTTPError for what waiting does not mend, such as a wrong token."""
        while True:
            try:
                yield from self._messages()
            except HTTPError as error:
                if error.code < 500 and error.code != 429:
                    raise
                self._retry = float(error.headers.get("Retry-After", RETRY))
            except OSError as error:  # the gateway is away, or silent for too long
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            time.sleep(self._retry)

    def _messages(self) -> Iterator[dict[str, Any]]:
        """The messages of one connection."""
        place = {"Last-Event-ID": self.marker} if self.marker else {}
        with urlopen(Request(self._url, headers=self._headers | place), timeout=SILENCE) as answer:  # nosec B310
            fields: dict[str, str] = {}
            for line in answer:
                text = line.decode().rstrip("\n")
                if text:
                    name, _, value = text.partition(":")  # a comment, the sign of life, has no name
                    fields[name] = value.removeprefix(" ")
                    continue
                if "id" in fields:
                    self.marker = fields["id"] or None
                if "retry" in fields:
                    self._retry = int(fields["retry"]) / 1000
                if fields.get("event") == "message":
                    yield json.loads(fields["data"])
                elif fields.get("event") == "end":
                    print(f"the feed has ended: {fields['data']}", file=sys.stderr)
                fields = {}


def main() -> None:
    """Follow a queue until somebody ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where the service is, without /v2")
    parser.add_argument("queue")
    parser.add_argument("--project", help="X-Project-ID; with a token it is the token's")
    parser.add_argument("--token", help="a token of Keystone")
    parser.add_argument("--state", type=Path, help="a file that keeps the place in the queue")
    options = parser.parse_args()
    headers = {"Client-ID": str(uuid.uuid4())}
    headers |= {"X-Project-ID": options.project} if options.project else {}
    headers |= {"X-Auth-Token": options.token} if options.token else {}
    marker = options.state.read_text() if options.state and options.state.exists() else None
    feed = Feed(options.url, options.queue, headers, marker)
    for message in feed:
        print(json.dumps(message), flush=True)
        if options.state:
            options.state.write_text(feed.marker or "")


if __name__ == "__main__":
    main()
