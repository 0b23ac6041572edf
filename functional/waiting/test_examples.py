"""What docs/waiting.md shows, and the worker in docs/examples."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from functional.api.helpers import post, stats
from functional.http import Api
from functional.services.gateway import Gateway
from functional.tours import section, steps, take
from functional.wait import wait_until
from functional.waiting.waiters import until_waiting

DOCS = Path(__file__).parents[2] / "docs"


def test_tour_shows_what_happens(start_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    tour = section((DOCS / "waiting.md").read_text(), "Tour")
    take(steps(tour), tmp_path, {"http://127.0.0.1:8888": start_gateway().url})


def test_worker_gets_and_deletes_what_is_posted(start_gateway: Callable[..., Gateway], queue: str) -> None:
    gateway = start_gateway()
    api = Api(gateway.url)
    worker = subprocess.Popen(
        [sys.executable, str(DOCS / "examples/waiting.py"), gateway.url, api.project, queue],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        assert worker.stdout is not None
        until_waiting(gateway.url, 1)
        post(api, queue, "first", "second")
        assert [worker.stdout.readline() for _ in range(2)] == ["first\n", "second\n"]
        until_waiting(gateway.url, 1)
        post(api, queue, {"third": 3})
        assert worker.stdout.readline() == "{'third': 3}\n"
        wait_until(lambda: stats(api, queue)["total"] == 0, 20, "the messages to be deleted")
    finally:
        worker.kill()
        worker.wait()
