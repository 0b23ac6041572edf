"""HTTP Basic authentication."""

import base64
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bcrypt
import pytest
from cachetools import TTLCache

from gateway.access.auth import passwords
from gateway.access.auth.base import Identity, Unauthenticated
from gateway.access.auth.basic import BasicAuth, read_users
from gateway.access.auth.passwords import AT_ONCE, WAITING, cost_of
from gateway.core.errors import Busy

#: Rounds of bcrypt: as few as it takes, these tests are not about its strength.
ROUNDS = 4


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()


ALICE = f"alice:{hashed('wonder:land')}"
BOB = f"bob:{hashed('pässword')}:project-of-bob"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    file = tmp_path / "htpasswd"
    file.write_text(f"# people\n\n{ALICE}\n{BOB}\n")
    return file


@pytest.fixture
def auth(users: Path) -> BasicAuth:
    return make(users)


def make(file: Any, threads: int = 8) -> BasicAuth:
    return BasicAuth(SimpleNamespace(
        basic=SimpleNamespace(htpasswd_file=file and str(file)), wsgi=SimpleNamespace(threads=threads)
    ))


def rewrite(file: Path, text: str) -> None:
    """Change the file so that it shows, also within the resolution of the file system's times."""
    file.write_text(text)
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


def header(user: str, password: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_right_password_tells_who_it_is(auth: BasicAuth) -> None:
    assert auth.identify(header("alice", "wonder:land")) == Identity("alice", "alice", ("member", "reader"))
    assert auth.identify(header("bob", "pässword")) == Identity("project-of-bob", "bob", ("member", "reader"))


@pytest.mark.parametrize(
    ("line", "project", "roles"),
    [("::reader", "carol", ("reader",)), (":shop:admin", "shop", ("admin", "member", "reader")),
     (":shop:auditor,Reader", "shop", ("auditor", "reader")), (":shop:", "shop", ("member", "reader"))],
)
def test_roles_stand_behind_the_project(users: Path, line: str, project: str, roles: tuple[str, ...]) -> None:
    users.write_text(f"carol:{hashed('x')}{line}\n")
    assert make(users).identify(header("carol", "x")) == Identity(project, "carol", roles)


def test_scheme_may_be_in_any_case(auth: BasicAuth) -> None:
    environ = {"HTTP_AUTHORIZATION": header("alice", "wonder:land")["HTTP_AUTHORIZATION"].replace("Basic", "bAsIc")}
    assert auth.identify(environ).user == "alice"


@pytest.mark.parametrize(
    ("user", "password"),
    [("alice", "wrong"), ("alice", ""), ("alice", "wonder"), ("Alice", "wonder:land"), ("nobody", "wonder:land"),
     ("", "wonder:land"), ("bob", "wonder:land"), ("alice", "wonder:land\0"), ("alice", "x" * 1000)],
)
def test_wrong_password_is_refused(auth: BasicAuth, user: str, password: str) -> None:
    with pytest.raises(Unauthenticated, match="wrong") as caught:
        auth.identify(header(user, password))
    assert caught.value.challenge.startswith("Basic realm=")


@pytest.mark.parametrize(
    "text",
    ["", "Basic", "Basic ", "Bearer token", "Basic !!!", "Basic YQ", "Basic " + base64.b64encode(b"nocolon").decode(),
     "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Basic \xe9", "\xe9"],
)
def test_malformed_header_is_refused(auth: BasicAuth, text: str) -> None:
    with pytest.raises(Unauthenticated):
        auth.identify({"HTTP_AUTHORIZATION": text})


def test_missing_header_is_refused(auth: BasicAuth) -> None:
    with pytest.raises(Unauthenticated):
        auth.identify({})


def test_right_password_is_hashed_once(auth: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = bcrypt.checkpw, []
    monkeypatch.setattr(passwords.bcrypt, "checkpw", lambda *pair: asked.append(pair) or real(*pair))
    for _ in range(3):
        auth.identify(header("alice", "wonder:land"))
    assert len(asked) == 1


def test_wrong_password_is_hashed_once_in_a_moment(
    auth: BasicAuth, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = bcrypt.checkpw, []
    monkeypatch.setattr(passwords.bcrypt, "checkpw", lambda *pair: asked.append(pair) or real(*pair))
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            auth.identify(header("alice", "wrong"))
        with pytest.raises(Unauthenticated):
            auth.identify(header("nobody", "wonder:land"))
    assert len(asked) == 2
    rewrite(users, f"alice:{hashed('wrong')}\n")
    assert auth.identify(header("alice", "wrong")).user == "alice"
    assert len(auth._wrong) == 0
    assert auth._wrong.maxsize == 10_000 and auth._wrong.ttl <= 60


def test_wrong_passwords_do_not_push_out_right_ones(auth: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    auth.identify(header("alice", "wonder:land"))
    auth._wrong = TTLCache(2, 10)
    for number in range(5):
        with pytest.raises(Unauthenticated):
            auth.identify(header("alice", str(number)))
    assert len(auth._wrong) == 2
    monkeypatch.setattr(passwords.bcrypt, "checkpw", lambda *_: pytest.fail("hashed again"))
    assert auth.identify(header("alice", "wonder:land")).user == "alice"


def test_answer_about_a_file_that_has_changed_meanwhile_is_not_remembered(
    auth: BasicAuth, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bcrypt.checkpw

    def check(*pair: bytes) -> bool:
        result = real(*pair)
        rewrite(users, f"{BOB}\n")
        auth._refresh()  # as another request does
        return result

    with monkeypatch.context() as patch:
        patch.setattr(passwords.bcrypt, "checkpw", check)
        auth.identify(header("alice", "wonder:land"))
    with pytest.raises(Unauthenticated):
        auth.identify(header("alice", "wonder:land"))


def work(asked: list[tuple[bytes, bytes]]) -> int:
    """Rounds of bcrypt in these checks."""
    return sum(2 ** cost_of(hash_) for _, hash_ in asked)


@pytest.mark.parametrize("costs", [(4, 4), (4, 7), (5, 8), (8, 8)])
def test_wrong_password_takes_as_long_for_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, costs: tuple[int, int]
) -> None:
    """htpasswd -B has cost 5, other tools 10 or 12: neither who exists nor how must show."""
    file = tmp_path / "htpasswd"
    hashes = [bcrypt.hashpw(b"right", bcrypt.gensalt(cost)).decode() for cost in costs]
    file.write_text(f"low:{hashes[0]}\nhigh:{hashes[1]}\nnone:$2b${costs[0]:02}${'9' * 53}\nbeyond:$2b$99${'a' * 53}\n")
    auth = make(file)
    real, asked = bcrypt.checkpw, list[tuple[bytes, bytes]]()

    def check(secret: bytes, hash_: bytes) -> bool:
        result = real(secret, hash_)
        asked.append((secret, hash_))  # not of what is refused without any work
        return result

    monkeypatch.setattr(passwords.bcrypt, "checkpw", check)
    for name in ("low", "high", "none", "beyond", "nobody"):
        asked.clear()
        with pytest.raises(Unauthenticated):
            auth.identify(header(name, "wrong"))
        assert work(asked) == 2 ** costs[1], name


def test_few_threads_check_passwords(auth: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are for those whose password is known."""
    auth.identify(header("alice", "wonder:land"))
    going_on, go_on = threading.Semaphore(0), threading.Event()

    def check(*pair: bytes) -> bool:
        going_on.release()
        go_on.wait(10)
        return False

    monkeypatch.setattr(passwords.bcrypt, "checkpw", check)
    answers: list[type[Exception]] = []

    def attack(number: int) -> None:
        try:
            auth.identify(header("alice", f"guess {number}"))
        except (Busy, Unauthenticated) as error:
            answers.append(type(error))

    attackers = [threading.Thread(target=attack, args=(number,)) for number in range(16)]
    for attacker in attackers:
        attacker.start()
    try:
        for _ in range(AT_ONCE):
            assert going_on.acquire(timeout=10)
        start = time.monotonic()
        assert auth.identify(header("alice", "wonder:land")).user == "alice"
        assert time.monotonic() - start < 5.0
        deadline = time.monotonic() + 5
        while len(answers) < 16 - AT_ONCE - WAITING and time.monotonic() < deadline:
            time.sleep(0.01)
        assert answers[:16 - AT_ONCE - WAITING] == [Busy] * (16 - AT_ONCE - WAITING)
        assert not going_on.acquire(timeout=0.1)
    finally:
        go_on.set()
        for attacker in attackers:
            attacker.join()


@pytest.mark.parametrize(("threads", "busy"), [(1, 1), (2, 1), (4, 2), (7, 2), (8, 4), (64, 4)])
def test_passwords_keep_half_of_the_threads_at_most(users: Path, threads: int, busy: int) -> None:
    gate = make(users, threads)._passwords._gate
    assert gate._room._value == busy
    assert gate._turns._value >= 1


def test_importing_hashes_nothing() -> None:
    """It would be a quarter of a second at each start of the command, whatever the command is."""
    code = (
        "import bcrypt, sys\n"
        "bcrypt.hashpw = bcrypt.checkpw = bcrypt.kdf = lambda *a, **k: sys.exit('hashed')\n"
        "import gateway.cli, gateway.access.auth.basic"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("cost", ["17", "31"])
def test_cost_that_can_not_be_checked_in_time_is_refused(tmp_path: Path, cost: str) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(f"{BOB}\nalice:$2b${cost}${'a' * 53}\n")
    with pytest.raises(ValueError, match="line 2.* cost of"):
        read_users(str(file))


def test_unknown_user_costs_a_hash_too(auth: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the time of an answer would tell who exists."""
    real, asked = bcrypt.checkpw, []
    monkeypatch.setattr(passwords.bcrypt, "checkpw", lambda *pair: asked.append(pair) or real(*pair))
    with pytest.raises(Unauthenticated):
        auth.identify(header("nobody", "x"))
    assert len(asked) == 1


def test_changed_file_counts_at_once(auth: BasicAuth, users: Path) -> None:
    auth.identify(header("alice", "wonder:land"))
    rewrite(users, f"carol:{hashed('new')}\n")
    with pytest.raises(Unauthenticated):
        auth.identify(header("alice", "wonder:land"))
    assert auth.identify(header("carol", "new")).user == "carol"


def test_file_that_is_gone_leaves_the_users_known_last(auth: BasicAuth, users: Path) -> None:
    users.unlink()
    assert auth.identify(header("alice", "wonder:land")).user == "alice"


def test_file_that_is_broken_by_a_change_leaves_the_users_known_last(auth: BasicAuth, users: Path) -> None:
    """An editor may be half way through: nobody should get a 500 for that."""
    rewrite(users, f"{ALICE}\ncarol:plain-text\n")
    assert auth.identify(header("alice", "wonder:land")).user == "alice"


@pytest.mark.parametrize("file", [None, ""])
def test_file_has_to_be_configured(file: Any) -> None:
    with pytest.raises(ValueError, match="htpasswd_file is not set"):
        make(file)


def test_file_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="htpasswd_file"):
        make(tmp_path / "none")


@pytest.mark.parametrize(
    "line",
    ["alice", "alice:", ":$2b$04$x", "alice:plain", "alice:{SHA}abc", "alice:$apr1$x$y", "alice:$2b$04$tooshort",
     "alice:$2b$xx$" + "a" * 53, "{ALICE}:shop:a b", "{ALICE}:shop:reader,", "{ALICE}:shop:reader:x"],
)
def test_line_that_is_wrong_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(f"{BOB}\n{line.replace('{ALICE}', ALICE)}\n")
    with pytest.raises(ValueError, match="line 2"):
        read_users(str(file))
