"""Who may do what."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from flask.testing import FlaskClient
from oslo_policy.policy import DocumentedRuleDefault

import gateway.access.policy
from gateway.access.auth.base import Identity, IdentityUnavailable, with_implied
from gateway.access.policy import ROLES, Policy
from gateway.api.v2.operations import OPERATIONS
from gateway.app import list_rules, make_app
from gateway.core.core import Core

Configured = Callable[..., Any]


#: Names of the calls' rules.
NAMES = {operation.rule for operation in OPERATIONS if operation.rule is not None}

#: Those of calls that are for administrators.
ADMINISTRATORS = {
    name for name in NAMES
    if name == "health:get" or name.startswith(("pools:", "flavors:")) or "migrat" in name
}


def policy_of(conf: Any) -> Policy:
    return Policy(conf, list_rules())


def caller(*roles: str, project: str = "p", user: str = "u") -> Identity:
    return Identity(project, user, with_implied(roles))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The policy file; it does not exist yet."""
    return tmp_path / "policy.yaml"


def write(file: Path, **rules: str) -> None:
    """Change the file so that it shows, also within the resolution of the file system's times."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(yaml.safe_dump({name.replace("__", ":"): check for name, check in rules.items()}))
    os.utime(file, ns=(0, max(before + 1_000_000, file.stat().st_mtime_ns)))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered."""
    monkeypatch.setattr(gateway.access.policy, "REMEMBERED_FOR", 0.0)


# -- rules ----------------------------------------------------------------------------------------------------------


def test_every_call_has_its_rule_and_every_rule_its_call() -> None:
    served = {(operation.rule, operation.method, operation.path) for operation in OPERATIONS}
    ruled = {
        (rule.name, call["method"], call["path"])
        for rule in list_rules() if isinstance(rule, DocumentedRuleDefault) for call in rule.operations
    }
    assert served - ruled == {(None, "GET", "/v2/")}
    assert ruled - served == set()
    assert {rule.name for rule in list_rules()} == {rule.name for rule in ROLES} | NAMES


def test_operations_of_one_rule_have_one_default() -> None:
    assert len({(operation.name, operation.default_rule) for operation in OPERATIONS}) == len(NAMES) + 1


def test_tools_of_oslo_policy_find_the_rules() -> None:
    setup = (Path(__file__).parents[1] / "setup.py").read_text()
    assert f'"oslo.policy.policies": ["marconi = {list_rules.__module__}:{list_rules.__name__}"]' in setup


@pytest.mark.parametrize(
    ("role", "rules"),
    [
        ("stranger", {"ping:get"}),
        ("reader", {"ping:get", "queues:get_all", "queues:get", "queues:stats", "messages:get_all", "messages:get",
                    "claims:get", "subscription:get_all", "subscription:get", "topics:get_all", "topics:get",
                    "topics:stats"}),
        ("member", NAMES - ADMINISTRATORS),
        ("admin", NAMES),
    ],
)
def test_roles_allow_by_default(configured: Configured, role: str, rules: set[str]) -> None:
    policy = policy_of(configured())
    assert {name for name in NAMES if policy.allows(name, caller(role), "p")} == rules


def test_roles_are_for_the_own_project(configured: Configured) -> None:
    policy = policy_of(configured())
    assert policy.allows("queues:get", caller("member"), "p")
    assert not policy.allows("queues:get", caller("member"), "other")
    assert policy.allows("queues:get", caller("admin"), "other")
    assert not policy.allows("queues:get", caller("member", project=""), "p")


def test_unknown_rule_allows_nothing(configured: Configured) -> None:
    assert not policy_of(configured()).allows("queues:steal", caller("admin"), "p")


# -- files ----------------------------------------------------------------------------------------------------------


def test_file_changes_rules(configured: Configured, file: Path) -> None:
    write(file, queues__create="rule:admin_or_owner", queues__delete="role:janitor", queues__stats="!")
    policy = policy_of(configured())
    assert policy.allows("queues:create", caller("anything"), "p")
    assert not policy.allows("queues:delete", caller("admin"), "p")
    assert policy.allows("queues:delete", caller("janitor"), "p")
    assert not policy.allows("queues:stats", caller("admin"), "p")
    assert policy.allows("queues:get", caller("reader"), "p")


def test_files_in_the_folder_count_too(configured: Configured, tmp_path: Path) -> None:
    (tmp_path / "policy.d").mkdir()
    write(tmp_path / "policy.d" / "own.yaml", queues__create="role:maker")
    assert policy_of(configured()).allows("queues:create", caller("maker"), "p")


@pytest.mark.usefixtures("at_once")
def test_changed_file_counts(configured: Configured, file: Path) -> None:
    policy = policy_of(configured())
    assert policy.allows("queues:create", caller("member"), "p")
    for check, allowed in (("role:maker", False), ("role:member", True)):
        write(file, queues__create=check)
        assert policy.allows("queues:create", caller("member"), "p") is allowed
    file.unlink()
    assert policy.allows("queues:create", caller("member"), "p")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("text", ["[1]", "{", "queues:create: 1", "queues:create: rule:nothing", "a: rule:a", "\0"])
def test_file_that_is_broken_by_a_change_leaves_the_rules_known_last(
    configured: Configured, file: Path, text: str
) -> None:
    write(file, queues__create="role:maker")
    policy = policy_of(configured())
    file.write_text(text)
    os.utime(file, ns=(0, 1))
    for _ in range(2):
        assert policy.allows("queues:create", caller("maker"), "p")
        assert not policy.allows("queues:create", caller("member"), "p")


@pytest.mark.usefixtures("at_once")
def test_named_file_that_is_gone_leaves_the_rules_known_last(configured: Configured, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    write(file, queues__create="role:maker")
    policy = policy_of(configured(oslo_policy={"policy_file": file}))
    file.unlink()
    assert not policy.allows("queues:create", caller("member"), "p")


@pytest.mark.parametrize("text", ["[1]", "{", "queues:create: 1", "queues:create: rule:nothing", "a: rule:a", "\0"])
def test_broken_file_is_refused_at_the_start(configured: Configured, file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ValueError, match=r"\[oslo_policy\] policy_file"):
        policy_of(configured())


def test_check_that_makes_no_sense_allows_nobody(configured: Configured, file: Path) -> None:
    write(file, queues__create="role:member or or")
    assert not policy_of(configured()).allows("queues:create", caller("admin"), "p")


def test_rules_of_no_use_are_named(configured: Configured, file: Path) -> None:
    write(file, queues__create="role:maker", messages__seal="role:admin")
    text = policy_of(configured()).describe()
    assert "2 rules" in text and str(file) in text and text.endswith("of no use here: messages:seal")


# -- remembering ----------------------------------------------------------------------------------------------------


def test_decision_is_made_once(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.access.policy, "REMEMBERED_FOR", 3600.0)
    policy = policy_of(configured())
    real, asked = policy._enforcer.enforce, []
    monkeypatch.setattr(policy._enforcer, "enforce", lambda *args: asked.append(args) or real(*args))
    for _ in range(3):
        assert policy.allows("queues:get", caller("member"), "p")
        assert not policy.allows("queues:get", caller("member"), "q")
        assert not policy.allows("queues:create", caller("reader"), "p")
        assert policy.allows("queues:get", caller("reader", user="other"), "p")
    assert len(asked) == 4


def test_decisions_do_not_fill_the_memory(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.access.policy, "REMEMBERED_AT_MOST", 10)
    monkeypatch.setattr(gateway.access.policy, "REMEMBERED_FOR", 3600.0)
    policy = policy_of(configured())
    for number in range(30):
        assert policy.allows("queues:get", caller("member", project=f"p{number}"), f"p{number}")
    assert len(policy._decisions) == 10


def test_policy_server_that_is_down_is_told_apart(configured: Configured, file: Path) -> None:
    write(file, queues__get="http://127.0.0.1:1/")
    with pytest.raises(IdentityUnavailable):
        policy_of(configured()).allows("queues:get", caller("admin"), "p")


# -- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(configured: Configured, core: Core) -> FlaskClient:
    return make_app(configured(signed_url={"secret_key": "x"}), core).test_client()


def headers(roles: str | None) -> dict[str, str]:
    return {"Client-ID": str(uuid4()), "X-Project-ID": "p"} | ({} if roles is None else {"X-Roles": roles})


@pytest.mark.parametrize(
    ("roles", "reads", "writes"),
    [(None, 200, 201), ("member", 200, 201), (" Member ", 200, 201), ("admin", 200, 201), ("reader", 200, 403),
     ("nobody", 403, 403), ("reader,member", 200, 201), (" , ", 200, 201)],
)
def test_noauth_believes_roles(client: FlaskClient, roles: str | None, reads: int, writes: int) -> None:
    assert client.get("/v2/queues", headers=headers(roles)).status_code == reads
    response = client.put("/v2/queues/q", headers=headers(roles))
    assert response.status_code == writes
    if writes == 403:
        assert "queues:create" in response.get_json()["description"]


def test_head_needs_the_same_as_get(client: FlaskClient) -> None:
    for path in ("/v2/queues", "/v2/queues/q/messages", "/v2/queues/q"):
        assert client.head(path, headers=headers("nobody")).status_code == 403, path


def test_nobody_shares_what_he_may_not_do(
    configured: Configured, core: Core, file: Path
) -> None:
    write(file, messages__delete="role:janitor", queues__share="role:reader")
    client = make_app(configured(signed_url={"secret_key": "x"}), core).test_client()

    def share(roles: str, **document: Any) -> int:
        return client.post("/v2/queues/q/share", json=document, headers=headers(roles)).status_code

    assert share("reader") == share("reader", paths=["messages", "claims"], methods=["GET", "HEAD"]) == 200
    assert share("reader", methods=["POST"]) == share("member", methods=["GET", "DELETE"]) == 403
    assert share("member", methods=["POST"]) == share("member", paths=["claims"], methods=["DELETE"]) == 200
    assert share("member,janitor", methods=["DELETE"]) == 200
