"""Tests against real services: a broker, a side-store and a gateway, each a process of its own."""

import pytest

pytest.register_assert_rewrite("bridges.suite", "storage.suite")
