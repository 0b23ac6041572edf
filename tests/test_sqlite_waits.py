"""SQLite that another process writes to: waits don't add up."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.errors import StoreUnavailable
from storage.sqlite import SQLiteStore

TIMEOUT = 0.6


@pytest.mark.parametrize("used", [True, False])
def test_eight_writes_while_another_process_writes_all_end_within_the_timeout(tmp_path: Path, used: bool) -> None:
    file = tmp_path / "marconi.db"
    store = SQLiteStore(f"sqlite:///{file}", SimpleNamespace(timeout=TIMEOUT))
    SQLiteStore(f"sqlite:///{file}", SimpleNamespace(timeout=TIMEOUT)).ping()
    if used:
        store.ping()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def write(number: int) -> float:
        start = time.monotonic()
        time.sleep(number * 0.05)
        with pytest.raises(StoreUnavailable):
            store.catalogue.create_queue(f"p/{number}", None)
        return time.monotonic() - start - number * 0.05

    try:
        with ThreadPoolExecutor(8) as pool:
            took = list(pool.map(write, range(8)))
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert max(took) < 1.6 * TIMEOUT
    store.ping()
    store.close()
