"""Which versions are there, as `enable_deprecated_api_versions` says."""

import json

import pytest

from functional.api.helpers import assert_error
from functional.api_v1.helpers import V1, V1_1, V2, at, create, documents
from functional.http import Api

PATHS = ("/", "", "/queues", "/queues/q", "/queues/q/messages", "/queues/q/claims", "/health", "/ping", "/pools")

TYPE = "application/vnd.openstack.messaging"


def test_root_document(api):
    answer = api.get("/", headers={"Client-ID": None, "X-Project-ID": None})
    assert answer.status_code == 300
    shown = answer.json()["versions"]
    assert [(version["id"], version["status"], version["updated"]) for version in shown] == [
        ("1", "DEPRECATED", "2014-9-11T17:47:05Z"), ("1.1", "DEPRECATED", "2016-7-29T02:22:47Z"),
        ("2", "CURRENT", "2014-9-24T04:06:47Z"),
    ]
    assert [version["media-types"] for version in shown] == [
        [{"base": "application/json", "type": f"{TYPE}-{name}+json"}] for name in ("v1", "v1_1", "v2")
    ]
    assert [version["links"] for version in shown] == [
        [{"href": f"{root}/", "rel": "self"}] for root in (V1, V1_1, V2)
    ]


@pytest.mark.parametrize(("written", "on"), [
    (None, []), ("", []), ("1", [V1]), ("1.1", [V1_1]), ("1,1.1", [V1, V1_1]), ("1.1, 1", [V1, V1_1]),
    ("[[1],[1.1]]", [V1, V1_1]), ("[['1.1']]", [V1_1]), ("[]", []),
])
def test_versions_that_are_switched_on(start_gateway, written, on):
    options = {} if written is None else {"enable_deprecated_api_versions": written}
    api = Api(start_gateway(DEFAULT={"admin_mode": True, **options}).url)
    links = [version["links"][0]["href"] for version in api.get("/").json()["versions"]]
    assert links == [f"{root}/" for root in (*on, V2)]
    for root in (V1, V1_1):
        for path in PATHS:
            answer = api.get(root + path)
            if root in on:
                assert answer.status_code in (200, 204) or path in ("/ping", "/queues/q", "/queues/q/claims")
            else:
                assert_error(answer, 404)
                assert_error(api.put(root + path, json={}), 404)
    api.close()


@pytest.mark.parametrize("admin_mode", [True, False])
def test_admin_mode_shows_the_admin_paths(start_gateway, admin_mode):
    on = {"admin_mode": admin_mode, "enable_deprecated_api_versions": "1,1.1"}
    api = Api(start_gateway(DEFAULT=on).url)
    for path in ("/v1/pools", "/v1.1/pools", "/v1.1/flavors", "/v1.1/health"):
        assert api.get(path).status_code == (200 if admin_mode else 404)
    assert ("rel/pools" in api.get("/v1.1/").json()["resources"]) == admin_mode
    assert api.get("/v1/flavors").status_code == 404
    api.close()


def test_client_ids_where_any_text_will_do(start_gateway):
    on = {"client_id_uuid_safe": False, "enable_deprecated_api_versions": "1,1.1"}
    api = Api(start_gateway(DEFAULT=on).url, client_id="not-a-uuid-at-all")
    assert api.get("/v2/queues").status_code == 200
    assert api.get("/v1.1/queues").status_code == 200
    assert_error(api.get("/v1/queues"), 400)
    api.close()


def test_checksums(start_gateway, queue):
    on = {"enable_checksum": True, "enable_deprecated_api_versions": "1,1.1"}
    api = Api(start_gateway(DEFAULT=on).url)
    create(api, queue)
    api.post(at(V1, queue, "/messages"), json=documents(V1, 1))
    (old,) = api.get(at(V1, queue, "/messages?echo=true")).json()["messages"]
    (newer,) = api.get(at(V1_1, queue, "/messages?echo=true")).json()["messages"]
    assert set(old) == {"href", "ttl", "age", "body"}
    assert set(newer) == {"id", "href", "ttl", "age", "body", "checksum"}
    api.close()


def test_audit_log_and_metrics_know_the_calls(start_gateway, tmp_path, queue):
    file = tmp_path / "audit.log"
    gateway = start_gateway(
        DEFAULT={"enable_deprecated_api_versions": "1,1.1"}, audit={"file": str(file), "reads": True}
    )
    api = Api(gateway.url)
    create(api, queue)
    api.post(at(V1_1, queue, "/messages"), json=documents(V1_1, 1), headers={"URL-Signature": "x"})
    api.get(at(V1, queue), headers={"X-Project-ID": None})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["action"], line["project"], line["signed"], line["status"]) for line in lines] == [
        ("PUT /v1/queues/<queue>", api.project, False, 201),
        ("POST /v1.1/queues/<queue>/messages", api.project, False, 201), ("GET /v1/queues/<queue>", "", False, 404),
    ]
    metrics = api.get("/metrics", headers={"Accept": "*/*"}).text
    assert 'route="/v1/queues/<queue>"' in metrics
    assert 'route="/v1.1/queues/<queue>/messages"' in metrics
    api.close()


def test_prefix(start_gateway, queue):
    """As clients that put links behind the service's URL once more, or behind that of the version, find them."""
    api = Api(start_gateway(
        DEFAULT={"enable_deprecated_api_versions": "1,1.1"}, wsgi={"prefix": "/messaging"}
    ).url)
    for root in (V1, V1_1):
        made = api.put(f"/messaging{at(root, f'{queue}-{root[1:]}')}")
        assert made.headers["Location"] == f"/messaging{at(root, f'{queue}-{root[1:]}')}"
        page = api.get(f"/messaging{root}/queues?limit=1").json()
        href = page["links"][0]["href"]
        assert href.startswith(f"/messaging{root}/queues?")
        for path in (href, f"/messaging{href}", f"{root}{href}", f"/messaging{root}{href}"):
            assert api.get(path).status_code in (200, 204), path
    assert api.get("/").json()["versions"][0]["links"][0]["href"] == "/messaging/v1/"
    located = api.get(f"/messaging{V1}/queues?limit=2").headers["Content-Location"]
    assert located == "/messaging/v1/queues?limit=2"
    api.close()


def test_user_of_a_project_is_in_it(start_gateway, tmp_path, queue):
    import bcrypt

    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    users = tmp_path / "users"
    users.write_text(f"ann:{hashed}:blue:reader\n")
    api = Api(start_gateway(
        DEFAULT={"auth_strategy": "basic", "enable_deprecated_api_versions": "1,1.1"},
        basic={"htpasswd_file": str(users)},
    ).url)
    nobody = {"X-Project-ID": None}
    for path in ("/v1/queues", "/v1/", "/v1/health", "/v1.1/queues"):
        assert_error(api.get(path, headers=nobody), 401)
    as_ann = {"headers": {**nobody, "Authorization": "Basic YW5uOnNlY3JldA=="}}
    assert api.put(at(V1, queue), **as_ann).status_code == 201
    assert api.get(at(V1_1, queue), **as_ann).status_code == 200
    assert api.head(at(V2, queue), **as_ann).status_code == 204
    assert_error(api.delete(at(V2, queue), **as_ann), 403)
    stranger = {"X-Project-ID": "red", "Authorization": "Basic YW5uOnNlY3JldA=="}
    assert_error(api.get(at(V1, queue), headers=stranger), 403)
    api.close()


def test_credentials_of_pools_are_for_administrators(start_gateway, tmp_path):
    import bcrypt

    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    users = tmp_path / "users"
    users.write_text(f"ann:{hashed}:blue:member\nada:{hashed}:blue:admin\n")
    options = {"auth_strategy": "basic", "enable_deprecated_api_versions": "1,1.1", "admin_mode": True}
    api = Api(start_gateway(DEFAULT=options, basic={"htpasswd_file": str(users)}).url)
    for root in (V1, V1_1, V2):
        more = () if root == V1 else (f"{root}/flavors", f"{root}/health")
        for path in (f"{root}/pools", f"{root}/pools/none", *more):
            as_ann = {"X-Project-ID": None, "Authorization": "Basic YW5uOnNlY3JldA=="}
            as_ada = {"X-Project-ID": None, "Authorization": "Basic YWRhOnNlY3JldA=="}
            assert_error(api.get(path, headers=as_ann), 403)
            assert api.get(path, headers=as_ada).status_code in (200, 404)
    api.close()
