"""Chromium without a window, driven over its DevTools protocol."""

import json
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from websockets.sync.client import connect

from functional.services.process import Missing, Service

#: Names of the program, in the order in which they are looked for.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")

#: Seconds for one answer of the browser.
TIMEOUT = 30.0


def find_chromium() -> str:
    """The program."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise Missing("Chromium is not installed; install it: `functional/install-services.sh`")


class Page:
    """A page that is open."""

    def __init__(self, url: str) -> None:
        """``url``: that of its debugger."""
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(connect(url, max_size=None, proxy=None))
        self._last = 0

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        self._last += 1
        self._connection.send(json.dumps({
            "id": self._last, "method": "Runtime.evaluate",
            "params": {"expression": expression, "returnByValue": True, "awaitPromise": True},
        }))
        while True:
            answer = json.loads(self._connection.recv(timeout=TIMEOUT))
            if answer.get("id") == self._last:
                result = answer["result"]
                if "exceptionDetails" in result:
                    raise RuntimeError(str(result["exceptionDetails"]))
                return result["result"].get("value")

    def close(self) -> None:
        """Drive it no more."""
        self._stack.close()


class Chromium(Service):
    """A browser without a window, with a profile of its own."""

    def __init__(self) -> None:
        self._program = find_chromium()
        super().__init__("chromium")
        self._profile = Path(tempfile.mkdtemp(dir=self.folder))

    def command(self) -> list[str]:
        # Its sandbox needs rights that containers don't give.
        return [
            self._program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={self._profile}",
            "about:blank",
        ]

    def is_ready(self) -> bool:
        return self._port_file.exists() and "\n" in self._port_file.read_text()

    @property
    def _port_file(self) -> Path:
        return self._profile / "DevToolsActivePort"

    def open(self, url: str) -> Page:
        """Open a page."""
        port = self._port_file.read_text().splitlines()[0]
        request = Request(f"http://127.0.0.1:{port}/json/new?{quote(url, safe='')}", method="PUT")
        with urlopen(request, timeout=TIMEOUT) as answer:
            target = json.load(answer)
        return Page(target["webSocketDebuggerUrl"])
