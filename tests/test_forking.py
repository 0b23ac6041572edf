"""Applications that are loaded before their server forks."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.access.exposure import LocalOnly, check_exposure
from gateway.config.refused import CannotServe
from gateway.server.forking import PerProcess
from storage.errors import StoreUnavailable
from storage.sqlite import SQLiteStore

Configured = Callable[..., Any]


def answer(app: Any, **environ: str) -> tuple[str, bytes]:
    statuses: list[str] = []
    body = app({"REQUEST_METHOD": "GET", **environ}, lambda status, headers: statuses.append(status))
    return statuses[0] if statuses else "", b"".join(body)


def in_child(work: Callable[[], Any]) -> str:
    """What work returns in a forked process."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, str(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read) as result:
        return result.read()


def test_each_process_makes_its_own_when_it_is_first_asked() -> None:
    made: list[int] = []

    def make() -> Any:
        made.append(os.getpid())
        return lambda environ, start_response: [str(os.getpid()).encode()]

    app = PerProcess(make)
    assert made == []
    assert answer(app)[1] == answer(app)[1] == str(os.getpid()).encode()
    assert made == [os.getpid()]
    assert in_child(lambda: (answer(app), answer(app), len(made) == 2, made[-1] == os.getpid())).endswith("True, True)")
    assert made == [os.getpid()]


def test_lock_that_a_thread_of_the_parent_held_stops_no_child() -> None:
    release = threading.Event()

    def make() -> Any:
        if threading.current_thread() is not threading.main_thread():
            release.wait(10)
        return lambda environ, start_response: [b"ok"]

    app = PerProcess(make)
    thread = threading.Thread(target=lambda: answer(app))
    thread.start()
    try:
        assert "ok" in in_child(lambda: answer(app))
    finally:
        release.set()
        thread.join()


def fork_with_sqlite(folder: Path) -> None:
    """What a child may do with SQLite before, while and after its parent uses it."""

    def open_() -> SQLiteStore:
        return SQLiteStore(f"sqlite:///{folder}/marconi.db", SimpleNamespace(timeout=1.0))

    def use() -> str:
        try:
            open_().ping()
            return "used"
        except StoreUnavailable as error:
            return str(error)

    store = open_()
    assert in_child(use) == "used"
    store.ping()
    assert "fork before the first request" in in_child(use)
    store.close()
    assert in_child(use) == "used"


def test_sqlite_that_was_in_use_at_the_fork_is_not_touched(tmp_path: Path) -> None:
    # In a process of its own: other tests may have left a store open in this one.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(fork_with_sqlite, tmp_path).result(60)


@pytest.mark.parametrize(("address", "status"), [
    ("127.0.0.1", ""), ("::1", ""), ("::ffff:127.0.0.1", ""), ("", ""), ("10.0.0.1", "403 FORBIDDEN"),
    ("::ffff:10.0.0.1", "403 FORBIDDEN"), ("fe80::1%eth0", "403 FORBIDDEN"), ("example.org", "403 FORBIDDEN"),
])
def test_only_this_machine_is_served_where_everybody_is_let_in(address: str, status: str) -> None:
    app = LocalOnly(lambda environ, start_response: [b"served"])
    found, body = answer(app, REMOTE_ADDR=address)
    assert (found, body == b"served") == (status, not status)


def test_exposure_is_that_of_the_address_in_use(configured: Configured) -> None:
    conf = configured(wsgi={"bind": "127.0.0.1"})
    check_exposure(conf)
    with pytest.raises(CannotServe, match="bind = 0.0.0.0"):
        check_exposure(conf, "0.0.0.0")
