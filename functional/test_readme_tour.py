"""The README's tour, run as it is written."""

from collections.abc import Callable
from pathlib import Path

from functional.services.gateway import Gateway
from functional.tours import steps, take

README = Path(__file__).parents[1] / "README.md"


def test_tour_shows_what_happens(start_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    tour = steps(README.read_text())
    assert len(tour) > 10
    take(tour, tmp_path, {"http://127.0.0.1:8888": start_gateway().url})
