"""A bare server, to show what Flask and waitress allow: a view that does nothing, with a gateway worker's settings.

``python -m gateway.bench.ceiling BODY_BYTES LIMIT`` prints a free port of 127.0.0.1, and serves there until its
standard input is closed.
"""

from __future__ import annotations

import os
import signal
import subprocess  # nosec B404
import sys
import threading
from typing import Self

#: Threads: as many as there are connections in posts and lists.
THREADS = 8

#: Seconds that the server may take to end.
TIMEOUT = 20.0

ID = "0193570a-0000-7000-8000-000000000000"


class CeilingFailed(Exception):
    """The server did not start; the text is the reason that it printed."""


class Ceiling:
    """The bare server in a separate process. Raises CeilingFailed if it does not start."""

    def __init__(self, body_size: int, limit: int):
        self._process = subprocess.Popen(  # nosec B603
            [sys.executable, "-m", "gateway.bench.ceiling", str(body_size), str(limit)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        assert self._process.stdout is not None  # nosec B101
        line = self._process.stdout.readline()
        if not line.strip().isdigit():
            _, said = self._process.communicate(timeout=TIMEOUT)
            raise CeilingFailed(f"the bare server did not start: {(said.strip() or 'no reason').splitlines()[-1]}")
        self.url = f"http://127.0.0.1:{line.strip()}"
        self.pid = self._process.pid

    def close(self) -> None:
        """Stop the server."""
        self._process.kill()
        self._process.communicate(timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main(body_size: int, limit: int) -> None:
    """Serve until standard input ends, which happens when the process that started this one ends."""
    import logging

    import waitress
    from flask import Flask, Response, request

    from gateway.bench.messages import random_body

    path = f"/v2/queues/bench/messages/{ID}"
    created = f'{{"resources":["{path}"]}}'.encode()
    body = random_body(body_size)
    message = b'{"id":"%b","href":"%b","ttl":3600,"age":1,"body":%b}' % (ID.encode(), path.encode(), body)
    page = b'{"messages":[%b],"links":[]}' % b",".join([message] * limit)
    app = Flask("ceiling")

    @app.post("/v2/queues/<queue>/messages")
    def post(queue: str) -> Response:
        request.get_data()
        return Response(created, 201, mimetype="application/json")

    @app.get("/v2/queues/<queue>/messages")
    def get(queue: str) -> Response:
        return Response(page, 200, mimetype="application/json")

    @app.route("/v2/queues/<queue>", methods=["PUT", "DELETE"])
    def queue(queue: str) -> Response:
        return Response(status=204)

    # waitress warns when a request waits for a thread. The gateway does not, and nobody would read it here.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=THREADS)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and then stops this process

    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    print(server.effective_port, flush=True)
    server.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
