"""What to do when a service is not installed on the machine that runs the tests."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from functional.services.process import Missing

T = TypeVar("T")


def require(service: Callable[[], T]) -> T:
    """Make a service. If it is not installed, the test is skipped; in CI (variable CI is set) it fails."""
    try:
        return service()
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
