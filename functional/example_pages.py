"""The pages of docs/examples/ in a browser: what serves them, what opens them, and what they show."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functional.installed import require
from functional.services.chromium import Chromium, Page
from functional.services.ports import free_port

__all__ = ["chromium", "site"]

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with require(Chromium) as browser:
        yield browser


@pytest.fixture
def site() -> Iterator[str]:
    """The origin that serves the examples."""
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    port = free_port()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", port), functools.partial(Handler, directory=str(EXAMPLES))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def shown(page: Page) -> Any:
    """The messages on a page."""
    return page.evaluate("[...document.querySelectorAll('#messages li')].map(item => JSON.parse(item.textContent))")
