"""A receiver in a process of its own, quick enough not to be what is measured: `python -m functional.notify.sink`.

It reads just enough of HTTP to answer, and counts. What comes to a path below `/hang/` gets no answer. `GET /count` is
the number of notifications so far; `GET /log` is a line of JSON for each of them, `GET /most` the largest number that
was under way at once by path; both are kept with `--log` only.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import re
import sys
import time
from collections import Counter

from functional.services.ports import accepts, free_port
from functional.services.process import Service

#: What a notification and a question are answered with.
TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
TOLD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"

HANGING = "/hang/"

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *([^\r]+)", re.IGNORECASE)

#: Connections that wait to be accepted.
BACKLOG = 4096


class Seen:
    """What has come. `keeps`: each of them, not only their number."""

    def __init__(self, keeps: bool) -> None:
        self.keeps = keeps
        self.count = 0
        self.log: list[tuple[float, str, str]] = []
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def tell(self, path: str) -> bytes:
        """The answer to a question."""
        if path == "/log":
            return "".join(json.dumps(entry) + "\n" for entry in self.log).encode()
        return json.dumps(self.most if path == "/most" else self.count).encode()


class Connection(asyncio.Protocol):
    """One connection of a sender."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._buffer = b""
        self._hangs_at = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = _LENGTH.search(head)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < size:
                return
            self._buffer = self._buffer[size:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        seen = self._seen
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].decode()
        if method == b"GET":
            told = seen.tell(path)
            self._transport.write(TOLD % (len(told), told))
            return
        seen.count += 1
        if seen.keeps:
            id_ = _ID.search(head)
            seen.log.append((time.monotonic(), path, id_[1].decode() if id_ else ""))
        if path.startswith(HANGING):
            self._hangs_at = path
            seen.under_way[path] += 1
            seen.most[path] = max(seen.most[path], seen.under_way[path])
        else:
            self._transport.write(TAKEN)

    def connection_lost(self, error: Exception | None) -> None:
        if self._hangs_at:
            self._seen.under_way[self._hangs_at] -= 1


class Sink(Service):
    """The process, and what it says. `keeps`: times and ids of all notifications."""

    def __init__(self, keeps: bool = False) -> None:
        super().__init__("sink")
        self._keeps = keeps
        self.port = free_port()
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        keeping = ["--log"] if self._keeps else []
        return [sys.executable, "-m", "functional.notify.sink", "--port", str(self.port), *keeping]

    def environment(self) -> dict[str, str]:
        return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def is_ready(self) -> bool:
        return accepts(self.port)

    def _ask(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._connection.getresponse().read()

    def count(self) -> int:
        """How many notifications have come."""
        return int(self._ask("/count"))

    def log(self) -> list[tuple[float, str, str]]:
        """When each of them came (monotonic seconds), to which path, and its `webhook-id`."""
        return [tuple(json.loads(line)) for line in self._ask("/log").splitlines()]

    def most(self) -> dict[str, int]:
        """How many were under way at once at most, by hanging path."""
        return dict(json.loads(self._ask("/most")))


async def _serve(port: int, keeps: bool) -> None:
    seen = Seen(keeps)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(seen), "127.0.0.1", port, backlog=BACKLOG
    )
    await server.serve_forever()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m functional.notify.sink", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", action="store_true", help="keep times and ids")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.port, options.log))
    return 0


if __name__ == "__main__":
    sys.exit(main())
