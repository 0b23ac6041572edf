"""A disk that can be full: a small file system in memory, mounted where a service keeps its data."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Self

#: Bytes that are written in one go to fill the disk.
CHUNK = 1024 * 1024


class SmallDisk:
    """``size`` bytes at ``folder``, where this process may mount; else ``mounted`` stays False and nothing changes."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._filler = folder / "filler"
        self.mounted = False

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size}", "marconi-faults", str(self._folder)]
        with contextlib.suppress(OSError):
            self.mounted = subprocess.run(command, capture_output=True).returncode == 0
        return self

    def __exit__(self, *_: object) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=True)

    def fill(self) -> None:
        """Use up all the space that is left."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(CHUNK))

    def free(self) -> None:
        """Give the space back."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._filler)
