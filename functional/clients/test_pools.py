"""Pools and flavors with python-zaqarclient, which has calls for them."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from zaqarclient.queues import client as zaqar
from zaqarclient.queues.v2.client import Client
from zaqarclient.transport import errors

from functional.deployments import embedded
from functional.installed import require
from functional.services.gateway import Gateway, merge


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client without Keystone. It sends no roles: a policy lets members manage pools and flavors."""
    folder = tmp_path_factory.mktemp("pools")
    (folder / "policy.yaml").write_text('"context_is_admin": "role:member"\n')
    options = merge(embedded(folder), {"oslo_policy": {"policy_file": folder / "policy.yaml"}})
    auth = {"backend": "noauth", "options": {"os_project_id": f"project-{uuid.uuid4().hex}"}}
    with require(lambda: Gateway(options)) as gateway:
        yield zaqar.Client(gateway.url, version=2, conf={"auth_opts": auth})


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/pool.db"


def test_pool_is_created_read_changed_and_deleted(client: Client, uri: str) -> None:
    pool = client.pool("one", uri=uri, weight=10, options={"color": "red"})
    assert pool.get() == {
        "href": "/v2/pools/one", "name": "one", "uri": uri, "weight": 10, "flavor": "", "options": {"color": "red"},
    }
    pool.update({"weight": 20})
    assert pool.get()["weight"] == pool.weight == 20
    pool.delete()
    with pytest.raises(errors.ResourceNotFound):
        pool.get()


def test_pools_are_listed_over_several_pages(client: Client, uri: str) -> None:
    made = [client.pool(f"p{n}", uri=f"{uri}{n}", weight=n, options={"n": n}) for n in range(3)]
    found = list(client.pools(limit=2, detailed=True).stream())
    assert [(pool.name, pool.weight, pool.options) for pool in found] == [(f"p{n}", n, {"n": n}) for n in range(3)]
    for pool in made:
        pool.delete()


def test_flavor_is_created_read_changed_and_deleted(client: Client, uri: str) -> None:
    first, second = (client.pool(name, uri=f"{uri}{name}", weight=1) for name in ("a", "b"))
    flavor = client.flavor("gold", pool_list=["a"])
    shown = {"href": "/v2/flavors/gold", "name": "gold", "pool_list": ["a"], "capabilities": []}
    assert flavor.get() == shown
    assert [found.name for found in client.flavors()] == ["gold"]
    queue = client.queue("jobs", force_create=True)
    queue.metadata(new_meta={"_flavor": "gold"})
    assert queue.metadata(force_reload=True)["_flavor"] == "gold"
    queue.delete()
    flavor.update({"pool_list": ["a", "b"]})
    assert flavor.get() == {**shown, "pool_list": ["a", "b"]}
    with pytest.raises(errors.ForbiddenError):
        first.delete()
    flavor.delete()
    for pool in (first, second):
        pool.delete()


@pytest.mark.parametrize("data", [{"uri": "gopher://x", "weight": 1}, {"uri": "sqlite:///x", "weight": -1}])
def test_pool_that_can_not_be_is_refused(client: Client, data: dict[str, object]) -> None:
    with pytest.raises(errors.MalformedRequest):
        client.pool("bad", **data)
    assert list(client.pools()) == []
