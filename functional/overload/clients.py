"""Clients that know when a request has been sent, and keep what became of it."""

import contextlib
import http.client
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Self

import psutil

from functional.services.gateway import Gateway

#: Seconds for one answer: more than the gateway may take, or a test would blame it for the client's impatience.
TIMEOUT = 60.0

#: Seconds between two requests of a client: a test of restarts needs many connections in use, not a full machine.
PAUSE = 0.02

BODY = json.dumps({"messages": [{"body": 1}]})

MEBIBYTE = 1024 * 1024


class Producer(threading.Thread):
    """Posts one message after the other until it is stopped, and never the same twice.

    A connection that is refused makes it go to the next of `ports`; anything else that goes wrong is in `failures`.
    """

    def __init__(self, ports: list[int], project: str, queue: str, keep: bool = True, pause: float = PAUSE) -> None:
        super().__init__()
        self.ports, self.keep, self.pause = ports, keep, pause
        self.path = f"/v2/queues/{queue}/messages"
        self.headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": project, "Content-Type": "application/json"}
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.confirmed: list[str] = []
        self.without_retry_after = 0
        self.refused = 0
        self.failures: list[Exception] = []
        self.ended = threading.Event()

    def run(self) -> None:
        connection = None
        try:
            while not self.ended.wait(self.pause):
                connection = connection or self._connect()
                if connection is None:
                    continue
                self._post(connection)
                if connection.sock is None or not self.keep:  # the gateway has said that it closes
                    connection.close()
                    connection = None
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(error)
        finally:
            if connection:
                connection.close()

    def _connect(self) -> http.client.HTTPConnection | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=TIMEOUT)
        try:
            connection.connect()
        except ConnectionRefusedError:
            self.refused += 1
            self.ports = [*self.ports[1:], self.ports[0]]
            return None
        return connection

    def _post(self, connection: http.client.HTTPConnection) -> None:
        start = time.monotonic()
        connection.request("POST", self.path, BODY, self.headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        self.statuses[answer.status] += 1
        if answer.status == 201:
            self.seconds.append(time.monotonic() - start)
            self.confirmed += [href.rpartition("/")[2] for href in body["resources"]]
        elif "Retry-After" not in answer.headers:
            self.without_retry_after += 1


@contextlib.contextmanager
def running(producers: list[Producer]) -> Iterator[list[Producer]]:
    """Let producers run for the length of a block."""
    for producer in producers:
        producer.start()
    try:
        yield producers
    finally:
        for producer in producers:
            producer.ended.set()
        for producer in producers:
            producer.join()


class Memory:
    """How much the memory of a gateway has grown."""

    def __init__(self, gateway: Gateway) -> None:
        self._process = psutil.Process(gateway.pid)
        self._before = self._process.memory_info().rss
        self._most = self._before

    def look(self) -> Self:
        """Note the present size."""
        self._most = max(self._most, self._process.memory_info().rss)
        return self

    @property
    def growth(self) -> float:
        """Mebibytes between the size at first and the largest seen."""
        return (self._most - self._before) / MEBIBYTE
