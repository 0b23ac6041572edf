"""Listening on a Unix socket."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from gateway.server.listening import drop_new_connections, listen, remove_file, shown

Configured = Callable[..., Any]


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_socket_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        with listen(f"unix:{tmp_path}/s", 0, mode=mode):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_one_on_which_nobody_listens_is_replaced_and_another_is_not(tmp_path: Path) -> None:
    where = f"unix:{tmp_path}/s"
    listen(where, 0).close()
    with listen(where, 0), pytest.raises(OSError, match="Address already in use"):
        listen(where, 0)


def test_one_whose_line_is_full_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.listening.BACKLOG", 0)
    monkeypatch.setattr("gateway.server.listening.TAKEN_IN", 0.05)
    where = f"unix:{tmp_path}/s"
    with listen(where, 0), socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/s")
        with pytest.raises(OSError, match="Address already in use"):
            listen(where, 0)


def test_file_of_somebody_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen(f"unix:{path}", 0) as first:
        path.unlink()
        with listen(f"unix:{path}", 0) as second:
            # The same process has made both: as if another had.
            from gateway.server import listening

            listening._created[str(path)] = (0, 0)
            remove_file(first)
            assert path.exists()
            listening._created[str(path)] = (path.stat().st_dev, path.stat().st_ino)
            remove_file(second)
            assert not path.exists()


def test_end_is_that_of_the_file(tmp_path: Path) -> None:
    with listen(f"unix:{tmp_path}/s", 0) as listener:
        assert shown(listener) == f"unix:{tmp_path}/s"
        drop_new_connections(listener)
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_address_is_shown_as_a_url(host: str, expected: str) -> None:
    with listen(host, 0) as listener:
        assert shown(listener) == f"{expected}{listener.getsockname()[1]}"


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost", "unix:/run/marconi/marconi.sock"])
def test_address_that_can_be_bound_is_taken(configured: Configured, bind: str) -> None:
    assert configured(wsgi={"bind": bind}).wsgi.bind == bind


@pytest.mark.parametrize("bind", ["unix:", "unix:marconi.sock", "unix:/run/", f"unix:/{'x' * 107}", "no host"])
def test_address_that_cannot_be_bound_is_refused(configured: Configured, bind: str) -> None:
    with pytest.raises(cfg.ConfigFileValueError, match="bind"):
        _ = configured(wsgi={"bind": bind}).wsgi.bind


@pytest.mark.parametrize("mode", ["8", "rw", "1777", ""])
def test_mode_that_is_none_is_refused(configured: Configured, mode: str) -> None:
    with pytest.raises(cfg.ConfigFileValueError, match="socket_mode"):
        _ = configured(wsgi={"socket_mode": mode}).wsgi.socket_mode
