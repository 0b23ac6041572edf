"""A line on the terminal that says how far a run is."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

#: Characters of the bar.
WIDTH = 24


class Progress:
    """The line is for terminals only."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._on = stream.isatty()
        self._expected = 0.0
        self._done = 0.0
        self._begun: float | None = None
        self._text = ""

    def expect(self, seconds: float) -> None:
        """So much is still to come, besides what is known."""
        self._expected += seconds

    def say(self, text: str) -> None:
        """What is done now."""
        self._text = text
        self.show()

    def begin(self) -> None:
        """Now a part of the expected time begins."""
        self._begun = time.monotonic()

    def done(self, seconds: float) -> None:
        """It is over, and was that much."""
        self._begun = None
        self._done += seconds
        self.show()

    def show(self) -> None:
        """Write the line anew."""
        if not self._on:
            return
        done = self._done + (time.monotonic() - self._begun if self._begun is not None else 0.0)
        part = min(1.0, done / self._expected) if self._expected else 0.0
        bar = "#" * round(part * WIDTH)
        left = max(0.0, self._expected - done)
        line = f"[{bar:<{WIDTH}}] {part:4.0%}  {left:.0f} s left  {self._text}"
        self._stream.write(f"\r\x1b[K{line[:shutil.get_terminal_size().columns - 1]}")
        self._stream.flush()

    def note(self, text: str) -> None:
        """Say something that stays, also when there is no terminal."""
        self.close()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Take the line away."""
        if self._on:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
