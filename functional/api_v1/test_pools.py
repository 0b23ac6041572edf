"""Pools and flavors in the older versions."""

import uuid

import pytest

from functional.api.helpers import assert_error
from functional.api_v1.helpers import V1, V1_1, V2

ROOTS = pytest.mark.parametrize("root", [V1, V1_1])

#: That no queue of other tests is put there.
WEIGHT = 0


@pytest.fixture
def pool(api, tmp_path):
    """The name of a pool, and its description. It is gone after the test."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    yield name, {"weight": WEIGHT, "uri": f"sqlite:///{tmp_path}/{name}.db"}
    api.patch(f"{V2}/pools/{name}", json={"flavor": ""}, headers={"X-Roles": "admin"})
    assert api.delete(f"{V1_1}/pools/{name}").status_code == 204


@ROOTS
def test_pool(api, pool, root):
    name, document = pool
    path = f"{root}/pools/{name}"
    made = api.put(path, json={**document, "options": {"timeout": 5}})
    assert made.status_code == 201
    assert made.headers["Location"] == path
    if root == V1:
        assert made.headers["Content-Type"].startswith("application/json")
    shown = api.get(path).json()
    assert shown == {
        "href": path, "name": name, "flavor": "", "options": {"timeout": 5}, **document,
    }
    assert api.put(path, json=document).status_code == 201  # overwritten
    assert api.get(path).json()["options"] == {}
    assert api.get(f"{V2}/pools/{name}", headers={"X-Roles": "admin"}).json()["weight"] == WEIGHT

    changed = api.patch(path, json={"options": {"timeout": 7}})
    assert (changed.status_code, changed.content) == (200, b"")
    assert api.get(path).json()["options"] == {"timeout": 7}
    assert api.delete(path).status_code == 204
    assert_error(api.get(path), 404)
    assert_error(api.patch(path, json=document), 404)


@ROOTS
def test_list_of_pools(api, pool, root):
    name, document = pool
    assert api.put(f"{root}/pools/{name}", json=document).status_code == 201
    just_before = name[:-1]
    page = api.get(f"{root}/pools?limit=99999&marker={just_before}").json()
    assert set(page["pools"][0]) == {"href", "name", "weight", "uri", "flavor"}
    assert page["pools"][0]["href"] == f"{root}/pools/{name}"
    detailed = api.get(f"{root}/pools?limit=1&detailed=true&marker={just_before}").json()
    assert detailed["pools"][0]["options"] == {}
    (link,) = detailed["links"]
    following = api.get(link["href"]).json()
    assert name not in [shown["name"] for shown in following["pools"]]


def test_empty_list_of_pools(api):
    nothing = "marker=" + "z" * 64
    assert api.get(f"{V1_1}/pools?{nothing}").json() == {"pools": [], "links": []}
    assert api.get(f"{V1}/pools?{nothing}").json() == {
        "pools": [], "links": [{"rel": "next", "href": f"/v1/pools?{nothing}"}],
    }


@ROOTS
@pytest.mark.parametrize("difference", [
    {"weight": -1}, {"weight": 2**32}, {"weight": "big"}, {"weight": None}, {"uri": "no scheme"}, {"uri": 1},
    {"uri": "amqp://127.0.0.1:9"}, {"uri": "nobody://host"}, {"options": []}, {"options": "x"},
    {"flavor": 1}, {"other": 1},
])
def test_bad_pool(api, pool, root, difference):
    name, document = pool
    assert_error(api.put(f"{root}/pools/{name}", json={**document, **difference}), 400)
    assert_error(api.get(f"{root}/pools/{name}"), 404)


@ROOTS
def test_bad_changes_of_a_pool(api, pool, root):
    name, document = pool
    path = f"{root}/pools/{name}"
    api.put(path, json=document)
    for data in (None, b"", b"{}", b"[]", b"[", b'{"flavor": ""}', b'{"other": 1}', b'{"weight": -1}', b'{"uri": "x"}'):
        assert_error(api.patch(path, data=data), 400)
    for limit in ("0", "-1", "x", "9" * 30):
        assert_error(api.get(f"{root}/pools?limit={limit}"), 400)
    assert api.get(path).json()["weight"] == WEIGHT


@pytest.mark.parametrize("key", ["pool_list", "pool", "pool_group"])
def test_flavor(api, pool, key):
    name, document = pool
    # No queue without this flavor is put there.
    assert api.put(f"{V1_1}/pools/{name}", json={**document, "weight": 1, "flavor": name}).status_code == 201
    path = f"{V1_1}/flavors/{name}"
    described = {key: [name] if key == "pool_list" else name}
    made = api.put(path, json={**described, "capabilities": {"durable": True}})
    assert made.status_code == 201
    assert made.headers["Location"] == path
    plain = {"href": path, "name": name}
    assert api.get(path).json() == plain
    assert api.get(f"{path}?detailed=true").json() == {**plain, "capabilities": ["durable"]}
    assert plain in api.get(f"{V1_1}/flavors?limit=20").json()["flavors"]
    assert {**plain, "capabilities": ["durable"]} in api.get(f"{V1_1}/flavors?detailed=1").json()["flavors"]
    assert_error(api.delete(f"{V1_1}/pools/{name}"), 403)
    changed = api.patch(path, json={"capabilities": {}, **described})
    assert (changed.status_code, changed.json()) == (200, {**plain, "capabilities": []})
    assert api.put(path, json=described).status_code == 201  # without capabilities
    assert api.put(f"/v1.1/queues/{name}", json={"_flavor": name}).status_code == 201
    assert api.delete(f"/v1.1/queues/{name}").status_code == 204
    assert api.delete(path).status_code == 204
    assert_error(api.get(path), 404)


@pytest.mark.parametrize("document", [
    {}, {"pool": "no such pool"}, {"pool_group": "no such pool"}, {"pool_list": ["no such pool"]}, {"pool": 1},
    {"pool": None}, {"pool": ["x"]}, {"pool_list": []}, {"pool": "a", "pool_group": "a"}, {"pool": "a", "x": 1},
    {"pool": "a", "pool_list": ["a"]}, [], "x", None,
])
def test_bad_flavor(api, document):
    path = f"{V1_1}/flavors/flavor-{uuid.uuid4().hex[:8]}"
    assert_error(api.put(path, json=document), 400)
    assert_error(api.get(path), 404)
    assert_error(api.get(f"{V1_1}/flavors?limit=21"), 400)
