"""A client of Zaqar's WebSocket protocol, in text or binary frames."""

import json
import uuid
from collections import deque
from contextlib import ExitStack
from typing import Any, Self

import msgpack
from websockets.sync.client import ClientConnection, connect

#: Seconds for an answer or a notification.
TIMEOUT = 30.0


class WebSocketClient:
    """A connection of one project and client."""

    def __init__(
        self, url: str, project: str | None = None, is_binary: bool = False, path: str = "/v2/websocket", **options: Any
    ) -> None:
        """``url``: of the gateway; ``options``: those of websockets.connect."""
        self.project = project or f"project-{uuid.uuid4().hex}"
        self.headers: dict[str, Any] = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": self.project}
        self.is_binary = is_binary
        self._stack = ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(
            connect(url.replace("http", "ws", 1) + path, max_size=None, proxy=None, **options)
        )
        #: What came in place of an answer.
        self.notifications: deque[Any] = deque()

    def send(self, action: str, headers: dict[str, Any] | None = None, **body: Any) -> None:
        """Send a request."""
        request = {"action": action, "headers": self.headers | (headers or {}), "body": body}
        self.socket.send(msgpack.packb(request) if self.is_binary else json.dumps(request))

    def receive(self, timeout: float = TIMEOUT) -> Any:
        """The next frame's value."""
        frame = self.socket.recv(timeout=timeout)
        return json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame)

    def answer(self) -> tuple[int, Any]:
        """Status and body of the next answer."""
        while not isinstance(frame := self.receive(), dict) or "request" not in frame:
            self.notifications.append(frame)
        return frame["headers"]["status"], frame["body"]

    def ask(self, action: str, headers: dict[str, Any] | None = None, **body: Any) -> tuple[int, Any]:
        """Status and body of the answer to a request."""
        self.send(action, headers, **body)
        return self.answer()

    def post(self, queue: str, *bodies: Any, **fields: Any) -> list[str]:
        """Post messages; their ids."""
        messages = [{"body": each, "ttl": 600, **fields} for each in bodies]
        status, body = self.ask("message_post", queue_name=queue, messages=messages)
        assert status == 201, body
        ids: list[str] = body["message_ids"]
        return ids

    def subscribe(self, queue: str, **options: Any) -> str:
        """Have messages of a queue sent to this connection; the id of the subscription."""
        status, body = self.ask("subscription_create", queue_name=queue, ttl=3600, options=options)
        assert status == 201, body
        id_: str = body["subscription_id"]
        return id_

    def notification(self, timeout: float = TIMEOUT) -> Any:
        """The next notification."""
        return self.notifications.popleft() if self.notifications else self.receive(timeout)

    def bodies(self, count: int) -> list[Any]:
        """Bodies of the next notifications."""
        return [self.notification()["body"] for _ in range(count)]

    def close(self) -> None:
        """Close the connection."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
