"""Posts a message over a WebSocket, and gets it as a notification over the same one. See docs/websocket.md.

    python websocket_client.py ws://127.0.0.1:8888/v2/websocket [QUEUE]
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections import deque
from typing import Any

from websockets.sync.client import ClientConnection, connect


class Messaging:
    """A connection. Notifications that come before an answer are kept for ``notification``."""

    def __init__(self, socket: ClientConnection, project: str, token: str = "") -> None:
        self._socket = socket
        self._headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": project}
        self._notifications: deque[dict[str, Any]] = deque()
        self.ask("authenticate", headers={"X-Auth-Token": token})

    def ask(self, action: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
        """The body of the answer. Raises RuntimeError for a refusal."""
        self._socket.send(json.dumps({"action": action, "headers": self._headers | (headers or {}), "body": body}))
        while "request" not in (frame := json.loads(self._socket.recv())):
            self._notifications.append(frame)
        if frame["headers"]["status"] >= 400:
            raise RuntimeError(f"{action}: {frame['headers']['status']} {frame['body']}")
        return frame["body"]

    def notification(self) -> dict[str, Any]:
        """The next one, which may take a while."""
        return self._notifications.popleft() if self._notifications else json.loads(self._socket.recv())


def main(url: str, queue: str = "orders") -> None:
    """Do what the module says."""
    with connect(url) as socket:
        messaging = Messaging(socket, os.environ.get("OS_PROJECT_ID", "demo"), os.environ.get("OS_TOKEN", ""))
        messaging.ask("subscription_create", queue_name=queue, ttl=3600)
        messaging.ask("message_post", queue_name=queue, messages=[{"body": {"item": "lamp"}, "ttl": 600}])
        print(json.dumps(messaging.notification(), sort_keys=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
