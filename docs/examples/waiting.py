"""A worker that waits for messages: `python docs/examples/waiting.py http://127.0.0.1:8888 demo orders`.

It needs the package requests. It asks for messages with ?wait=20, so an empty queue costs one request in 20 seconds,
and a message is here a few milliseconds after its post.
"""

from __future__ import annotations

import sys
import time
import uuid
from typing import Any

import requests

#: Seconds that the gateway waits for messages, and that we wait for its answer: longer, as it may be busy.
WAIT, PATIENCE = 20, 40


def work(body: Any) -> None:
    """What is to be done with a message."""
    print(body, flush=True)


def main(url: str, project: str, queue: str) -> None:
    session = requests.Session()
    session.headers.update({"Client-ID": str(uuid.uuid4()), "X-Project-ID": project})
    while True:
        claim = session.post(
            f"{url}/v2/queues/{queue}/claims", params={"wait": WAIT, "limit": 10}, json={"ttl": 300, "grace": 60},
            timeout=PATIENCE,
        )
        if claim.status_code in (429, 503):  # too many requests, or the broker is away
            time.sleep(int(claim.headers.get("Retry-After", 2)))
            continue
        claim.raise_for_status()
        if claim.status_code == 204:  # nothing came; or the gateway is about to stop, and another one answers next
            continue
        for message in claim.json()["messages"]:
            work(message["body"])
            session.delete(url + message["href"], timeout=PATIENCE).raise_for_status()


if __name__ == "__main__":
    main(*sys.argv[1:])
