"""The tour of docs/notifications.md, run as it is written."""

import sys
from collections.abc import Callable
from pathlib import Path

from functional.services.gateway import Gateway
from functional.services.ports import free_port
from functional.tours import blocks, replaced, section, steps, take

DOCUMENT = Path(__file__).parents[2] / "docs/notifications.md"


def test_tour_shows_what_happens(start_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    tour = section(DOCUMENT.read_text(), "Tour")
    (receiver,) = blocks(tour, "python")
    gateway = start_gateway(notification={"allowed_networks": "127.0.0.1"})
    port = str(free_port())
    here = {"http://127.0.0.1:8888": gateway.url, "8000": port, ".venv/bin/python": sys.executable}
    (tmp_path / "receiver.py").write_text(replaced(receiver, here))
    take(steps(tour), tmp_path, here)
