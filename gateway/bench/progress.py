"""A progress bar on the terminal."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

#: Width of the bar, in characters.
WIDTH = 24


class Progress:
    """A bar with the seconds that are left and a text. Other streams than terminals get notes only."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._on = stream.isatty()
        self._expected = 0.0
        self._done = 0.0
        self._begun: float | None = None
        self._text = ""

    def expect(self, seconds: float) -> None:
        """Add to the time that the run is expected to take."""
        self._expected += seconds

    def say(self, text: str) -> None:
        """Set the text that says what is being done."""
        self._text = text
        self.show()

    def begin(self) -> None:
        """A part of the expected time begins now."""
        self._begun = time.monotonic()

    def done(self, seconds: float) -> None:
        """The part that began is over; it took ``seconds`` of the expected time."""
        self._begun = None
        self._done += seconds
        self.show()

    def show(self) -> None:
        """Write the line again."""
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
        """Print a line that stays, also if the stream is no terminal."""
        self.close()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Remove the line."""
        if self._on:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
