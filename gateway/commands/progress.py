"""How far something is: a bar on a terminal, or else a line from time to time."""

from __future__ import annotations

import time
from typing import TextIO

from tqdm import tqdm

#: Seconds between two lines that say the same but for the numbers, where there is no terminal.
QUIET_FOR = 5.0


class Progress:
    """``unit``: what is counted, in the plural."""

    def __init__(self, stream: TextIO, unit: str):
        self._stream = stream
        self._unit = unit
        self._bar = (
            tqdm(
                total=0, file=stream, unit=f" {unit}", leave=False, dynamic_ncols=True,
                bar_format="{bar:24} {n}/{total}{unit} [{elapsed}] {desc}",
            )
            if stream.isatty() else None
        )
        self._said = ""
        self._said_at = 0.0

    def show(self, done: int, left: int, text: str) -> None:
        """So many are done and so many are left; ``text`` says what is being done."""
        if self._bar is not None:
            self._bar.total, self._bar.n = done + left, done
            self._bar.set_description_str(f"{left} left, {text}")
            return
        now = time.monotonic()
        if text != self._said or now - self._said_at >= QUIET_FOR:
            self._said, self._said_at = text, now
            self.note(f"{done} {self._unit} moved, {left} left: {text}")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
