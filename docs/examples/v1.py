"""A producer and a worker that speak version 1 of the API: create a queue, post, claim, delete.

    python docs/examples/v1.py http://127.0.0.1:8888

The gateway must serve version 1: `enable_deprecated_api_versions = 1`.
"""

from __future__ import annotations

import sys
import uuid

import requests

#: Seconds to wait for an answer.
TIMEOUT = 30


def main(server: str) -> None:
    """Do some work on the queue `demo` of the project `demo`."""
    session = requests.Session()
    session.headers.update({"Client-ID": str(uuid.uuid4()), "X-Project-ID": "demo"})

    def call(method: str, path: str, document: object = None) -> requests.Response:
        response = session.request(method, server + path, json=document, timeout=TIMEOUT)
        response.raise_for_status()
        return response

    # Nothing is created by a post in version 1: 201 the first time, then 204.
    call("PUT", "/v1/queues/demo")

    # A list of messages. All of them have a ttl.
    posted = call("POST", "/v1/queues/demo/messages", [{"ttl": 300, "body": {"job": number}} for number in range(3)])
    print("posted", len(posted.json()["resources"]))

    # 201 and a list of messages, or 204 when there is nothing to do.
    while (claimed := call("POST", "/v1/queues/demo/claims?limit=2", {"ttl": 300, "grace": 60})).status_code == 201:
        for message in claimed.json():
            print("working on", message["body"])
            call("DELETE", message["href"])  # a path; it names the claim

    call("DELETE", "/v1/queues/demo")
    print("done")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8888")
