"""HTTP Basic authentication."""

import base64
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bcrypt
import pytest

import gateway.auth.basic
from gateway.auth.base import Identity, Unauthenticated
from gateway.auth.basic import BasicAuth, read_users

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


def make(file: Any) -> BasicAuth:
    return BasicAuth(SimpleNamespace(basic=SimpleNamespace(htpasswd_file=file and str(file))))


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
    monkeypatch.setattr(gateway.auth.basic.bcrypt, "checkpw", lambda *pair: asked.append(pair) or real(*pair))
    for _ in range(3):
        auth.identify(header("alice", "wonder:land"))
    assert len(asked) == 1
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            auth.identify(header("alice", "wrong"))
    assert len(asked) == 3


def test_unknown_user_costs_a_hash_too(auth: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the time of an answer would tell who exists."""
    real, asked = bcrypt.checkpw, []
    monkeypatch.setattr(gateway.auth.basic.bcrypt, "checkpw", lambda *pair: asked.append(pair) or real(*pair))
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
     "alice:$2b$xx$" + "a" * 53, f"{ALICE}:shop:a b", f"{ALICE}:shop:reader,", f"{ALICE}:shop:reader:x"],
)
def test_line_that_is_wrong_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(f"{BOB}\n{line}\n")
    with pytest.raises(ValueError, match="line 2"):
        read_users(str(file))
