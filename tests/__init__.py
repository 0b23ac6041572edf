"""Quick tests without services, and the suites that every bridge and every side-store has to pass."""

import pytest

pytest.register_assert_rewrite("bridges.suite", "storage.suite")
