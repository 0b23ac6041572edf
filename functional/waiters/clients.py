"""Those who wait: polls and feeds on connections of their own, in one thread. They note when each message arrives."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

#: Connections that are opened at the same time, and seconds that each is given: together 200 in a second. Each begins
#: with a look at its queue, and a gateway serves only so many.
AT_ONCE, OPENING = 10, 0.05

CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"

#: Called with the id of a message when it has arrived, and the time (monotonic seconds).
Note = Callable[[str, float], None]


@dataclass
class Target:
    """A gateway's address, the project whose queues are waited for, and the seconds that a poll asks to wait."""

    host: str
    port: int
    project: str
    wait: int

    def head(self, method: str, path: str, *more: str, body: bytes = b"") -> bytes:
        """A request."""
        lines = [
            f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", f"Client-ID: {CLIENT}",
            f"X-Project-ID: {self.project}", *more,
        ]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Crowd:
    """All who wait.

    ``answers`` counts the answers without a message, ``refused`` those that said to try again later, ``broken`` the
    connections that have ended.
    """

    target: Target
    polled: Note
    fed: Note
    answers: int = 0
    refused: int = 0
    broken: int = 0
    waiting: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def poll(self, queue: str) -> None:
        """One more poll: it claims one message, waiting for it, and then waits for the next."""
        self._start(self._poll(queue))

    def feed(self, queue: str) -> None:
        """One more feed."""
        self._start(self._feed(queue))

    async def end(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self.broken += 1

    async def _poll(self, queue: str) -> None:
        body = b'{"ttl": 300, "grace": 60}'
        request = self.target.head("POST", f"/v2/queues/{queue}/claims?limit=1&wait={self.target.wait}", body=body)
        reader, writer = await self._open(request)
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            data = await reader.readexactly(length(head))
            arrived = time.monotonic()
            if head.startswith(b"HTTP/1.1 201"):
                for message in orjson.loads(data)["messages"]:
                    self.polled(message["id"], arrived)
            elif head.startswith(b"HTTP/1.1 204"):
                self.answers += 1
            else:
                await self._wait_as_told(head)
            writer.write(request)

    async def _feed(self, queue: str) -> None:
        request = self.target.head(
            "GET", f"/v2/queues/{queue}/messages?echo=true&include_claimed=true", "Accept: text/event-stream"
        )
        reader, writer = await self._open(request)
        while not (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
            await reader.readexactly(length(head))
            await self._wait_as_told(head)
            writer.write(request)
        while line := await reader.readline():
            if line.startswith(b"data:"):
                arrived = time.monotonic()
                if "id" in (message := orjson.loads(line[5:])):
                    self.fed(message["id"], arrived)
        raise ConnectionError("the feed has ended")

    async def _open(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with self._opening:
            reader, writer = await asyncio.open_connection(self.target.host, self.target.port)
            writer.write(request)
            await asyncio.sleep(OPENING)
        self.waiting += 1
        return reader, writer

    async def _wait_as_told(self, head: bytes) -> None:
        """Wait for as long as an answer says. Raises ConnectionError if it says nothing of that."""
        seconds = number(head, b"retry-after:")
        if not seconds:
            raise ConnectionError(head.decode())
        self.refused += 1
        await asyncio.sleep(seconds)


def number(head: bytes, name: bytes) -> int:
    """The number in the header ``name`` (lower case, with its colon) of an answer; 0 without one."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(name):
            return int(line[len(name):])
    return 0


def length(head: bytes) -> int:
    """The Content-Length of an answer."""
    return number(head, b"content-length:")


async def post(
    target: Target, posts: "asyncio.Queue[str]", answered: Callable[[str, float], None], pause: float
) -> None:
    """Post one message to each queue of ``posts``, on one connection, ``pause`` seconds apart."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    body = orjson.dumps({"messages": [{"ttl": 300, "body": "wake up"}]})
    while not posts.empty():
        writer.write(target.head("POST", f"/v2/queues/{posts.get_nowait()}/messages", body=body))
        head = await reader.readuntil(b"\r\n\r\n")
        data = await reader.readexactly(length(head))
        now = time.monotonic()
        if not head.startswith(b"HTTP/1.1 201"):
            raise ConnectionError(f"{head.decode()}{data.decode()}")
        answered(orjson.loads(data)["resources"][0].rpartition("/")[2], now)
        await asyncio.sleep(pause)
    writer.close()
