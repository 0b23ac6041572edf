"""The root, the home document, health, and the rules that every request is held to."""

import uuid

import pytest

from functional.api.helpers import (
    JSON,
    REQUEST_ID,
    assert_error,
    bodies,
    claim,
    eventually,
    listed,
    messages_path,
    pop,
    post,
    queue_path,
    unknown_id,
)
from functional.http import Api

HOME_RELATIONS = [
    "rel/queues",
    "rel/queue",
    "rel/queue_stats",
    "rel/queue_share",
    "rel/queue_purge",
    "rel/messages",
    "rel/post_messages",
    "rel/messages_delete",
    "rel/message_delete",
    "rel/claim",
    "rel/post_claim",
    "rel/patch_claim",
    "rel/delete_claim",
    "rel/ping",
    "rel/health",
    "rel/pools",
    "rel/pool",
    "rel/flavors",
    "rel/flavor",
]

#: A client that has not been told who it is.
ANONYMOUS = {"Client-ID": None, "X-Project-ID": None}

PROTECTED = ["/v2/", "/v2/ping", "/v2/queues", "/v2/queues/q", "/v2/queues/q/stats", "/v2/queues/q/messages"]


# The root: service discovery, before anybody has credentials


def test_root_lists_version_2_and_nothing_else(api):
    response = api.get("/", headers=ANONYMOUS)

    assert response.status_code == 300
    assert response.headers["Content-Type"].split(";")[0] == "application/json"
    document = response.json()
    assert list(document) == ["versions"]
    (version,) = document["versions"]
    assert isinstance(version.pop("updated"), str)
    assert version == {
        "id": "2",
        "status": "CURRENT",
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.messaging-v2+json"},
        ],
        "links": [{"href": "/v2/", "rel": "self"}],
    }


def test_root_ignores_the_headers_it_does_not_need(api):
    response = api.get("/", headers={"Client-ID": "not a uuid", "X-Project-ID": "x" * 300})

    assert response.status_code == 300


# The home document


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_home_document_has_its_own_content_type(api, path):
    response = api.get(path)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json-home"


def test_home_document_names_every_resource(api):
    resources = api.get("/v2/").json()["resources"]

    missing = [relation for relation in HOME_RELATIONS if relation not in resources]
    assert missing == []


def test_home_document_describes_each_resource(api):
    resources = api.get("/v2/").json()["resources"]

    for relation, resource in resources.items():
        assert resource["href-template"].startswith("/v2/"), relation
        assert isinstance(resource["hints"], dict), relation
        assert resource["hints"], relation
        if "{" in resource["href-template"]:
            assert isinstance(resource["href-vars"], dict), relation
            assert resource["href-vars"], relation


# Ping and health


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping_answers_without_a_body(api, method):
    response = getattr(api, method.lower())("/v2/ping")

    assert response.status_code == 204
    assert response.content == b""


def test_health_reports_each_pool(api):
    response = api.get("/v2/health", headers={"X-Roles": "admin"})

    assert response.status_code == 200
    report = response.json()
    assert report.pop("catalog_reachable") is True
    pool = report.pop("default")
    assert report == pool  # as long as it is the only one
    assert set(pool) == {"storage_reachable", "message_volume", "operation_status"}
    assert pool["storage_reachable"] is True
    assert pool["operation_status"]
    for operation in pool["operation_status"].values():
        assert set(operation) == {"seconds", "ref", "succeeded"}
        assert operation["succeeded"] is True
        assert operation["seconds"] >= 0


def test_health_counts_the_messages_of_all_projects(api, queue):
    other = Api(api.url)
    post(api, queue, 1, 2, 3)
    post(other, queue, 4)
    claim(api, queue, limit=1)

    def counted():
        volume = api.get("/v2/health", headers={"X-Roles": "admin"}).json()["message_volume"]
        assert set(volume) == {"free", "claimed", "total"}
        # Other tests have left messages too.
        assert volume["free"] >= 3 and volume["claimed"] >= 1
        assert volume["total"] >= volume["free"] + volume["claimed"]
        return True

    assert eventually(counted)


def test_health_is_for_admins(api):
    assert_error(api.get("/v2/health"), 403)
    assert_error(api.get("/v2/health", headers={"X-Roles": "member,reader"}), 403)


# Client-ID


@pytest.mark.parametrize("path", PROTECTED)
def test_missing_client_id_is_refused(api, path):
    assert_error(api.get(path, headers={"Client-ID": None}), 400)


@pytest.mark.parametrize(
    "client_id",
    [
        "",
        "abc",
        "1234567890",
        "00000000-0000-0000-0000-00000000000",
        "00000000-0000-0000-0000-0000000000000",
        "g0000000-0000-0000-0000-000000000000",
        "0" * 31,
        "0" * 33,
        "0" * 5000,
    ],
)
def test_client_id_that_is_no_uuid_is_refused(api, client_id):
    assert_error(api.get("/v2/queues", headers={"Client-ID": client_id}), 400)


@pytest.mark.parametrize(
    "spell",
    [
        str,
        lambda client: client.hex,
        lambda client: str(client).upper(),
        lambda client: "{" + str(client) + "}",
        lambda client: client.urn,
    ],
    ids=["dashes", "hex", "upper case", "braces", "urn"],
)
def test_client_id_may_be_spelled_in_any_usual_way(api, spell):
    response = api.get("/v2/queues", headers={"Client-ID": spell(uuid.uuid4())})

    assert response.status_code == 200


# Project


@pytest.mark.parametrize("path", PROTECTED)
def test_missing_project_is_refused(api, path):
    assert_error(api.get(path, headers={"X-Project-ID": None}), 400)


@pytest.mark.parametrize("path", PROTECTED)
def test_empty_project_is_refused(api, path):
    assert_error(api.get(path, headers={"X-Project-ID": ""}), 400)


def test_project_of_256_characters_is_good(api, queue):
    longest = Api(api.url, project=uuid.uuid4().hex * 8)

    created = longest.put(queue_path(queue))
    post(longest, queue, 1)

    assert created.status_code == 201
    assert bodies(listed(longest, queue)) == [1]
    assert bodies(pop(longest, queue, 1)) == [1]


def test_long_projects_that_differ_in_their_last_character_are_separate(api, queue):
    prefix = (uuid.uuid4().hex * 8)[:255]
    one, other = Api(api.url, project=prefix + "1"), Api(api.url, project=prefix + "2")

    post(one, queue, "secret")

    assert pop(other, queue, 1) == []
    assert bodies(pop(one, queue, 1)) == ["secret"]


def test_project_longer_than_256_characters_is_refused(api, queue):
    response = api.get(queue_path(queue), headers={"X-Project-ID": "p" * 257})

    assert_error(response, 400, title="Invalid queue identification")


# Accept


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "*/*",
        "application/*",
        "text/html, application/json;q=0.5",
        "text/html,application/xhtml+xml,*/*;q=0.1",
        "application/json; charset=utf-8",
    ],
)
def test_accept_that_admits_json_is_good(api, accept):
    assert api.get("/v2/queues", headers={"Accept": accept}).status_code == 200


def test_absent_accept_is_good(api):
    response = api.get("/v2/queues", headers={"Accept": None})

    assert "Accept" not in response.request.headers
    assert response.status_code == 200


@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml, text/*", "image/png", "application/json;q=0"]
)
def test_accept_that_excludes_json_is_refused(api, accept):
    assert_error(api.get("/v2/queues", headers={"Accept": accept}), 406)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_accept_is_checked_on_messages_too(api, queue, method):
    response = getattr(api, method.lower())(messages_path(queue), headers={"Accept": "text/plain"})

    assert_error(response, 406)


def test_accept_is_checked_before_project_and_client_id(api):
    assert_error(api.get("/v2/queues", headers={**ANONYMOUS, "Accept": "text/html"}), 406)


# Request ids


def test_every_answer_has_a_request_id_of_its_own(api, queue):
    answers = [api.get("/v2/queues"), api.get("/v2/ping"), api.get("/v2/queues"), api.put(queue_path(queue))]

    request_ids = [answer.headers["X-Openstack-Request-Id"] for answer in answers]
    assert all(REQUEST_ID.fullmatch(request_id) for request_id in request_ids)
    assert len(set(request_ids)) == len(request_ids)


def test_root_has_a_request_id(api):
    assert REQUEST_ID.fullmatch(api.get("/", headers=ANONYMOUS).headers["X-Openstack-Request-Id"])


def test_junk_headers_are_ignored(api, queue):
    # openstacksdk sends these, and zaqarclient a Content-Type on every GET
    junk = {"location": "None", "X-Auth-Token": "notused", "X-Junk": "\u00e9\u00ff", **JSON}

    assert api.get("/v2/queues", headers=junk).status_code == 200
    assert api.get(messages_path(queue), headers=junk).status_code == 200
    assert api.delete(queue_path(queue), headers=junk).status_code == 204


# Paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1/queues",
        "/v3/queues",
        "/v2/nothing",
        "/v2/queues/q/nothing",
        "/v2/queues/q/messages/1/2",
        "/v2/queues/q/claims/1/2",
        "/v2/ping/1",
    ],
)
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_unknown_path_is_404(api, method, path):
    assert_error(getattr(api, method)(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", {"GET"}),
        ("POST", "/v2/", {"GET"}),
        ("POST", "/v2/ping", {"GET", "HEAD"}),
        ("POST", "/v2/queues", {"GET"}),
        ("DELETE", "/v2/queues", {"GET"}),
        ("POST", "/v2/queues/{q}", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("POST", "/v2/queues/{q}/stats", {"GET"}),
        ("GET", "/v2/queues/{q}/purge", {"POST"}),
        ("GET", "/v2/queues/{q}/share", {"POST"}),
        ("PUT", "/v2/queues/{q}/messages", {"GET", "POST", "DELETE"}),
        ("PATCH", "/v2/queues/{q}/messages", {"GET", "POST", "DELETE"}),
        ("POST", "/v2/queues/{q}/messages/{id}", {"GET", "DELETE"}),
        ("PUT", "/v2/queues/{q}/messages/{id}", {"GET", "DELETE"}),
        ("GET", "/v2/queues/{q}/claims", {"POST"}),
        ("DELETE", "/v2/queues/{q}/claims", {"POST"}),
        ("PUT", "/v2/queues/{q}/claims/{id}", {"GET", "PATCH", "DELETE"}),
        ("POST", "/v2/pools", {"GET"}),
        ("POST", "/v2/pools/{q}", {"GET", "PUT", "PATCH", "DELETE"}),
        ("PUT", "/v2/pools/{q}/evacuation", {"GET", "DELETE"}),
        ("GET", "/v2/pools/{q}/evacuate", {"POST"}),
        ("POST", "/v2/flavors/{q}", {"GET", "PUT", "PATCH", "DELETE"}),
        ("PUT", "/v2/queues/{q}/migration", {"GET", "DELETE"}),
    ],
)
def test_wrong_method_is_405_and_names_the_right_ones(api, queue, method, path, allowed):
    response = api.request(method, path.format(q=queue, id=unknown_id()))

    assert_error(response, 405)
    named = {name.strip() for name in response.headers["Allow"].split(",")}
    assert named - {"HEAD", "OPTIONS"} == allowed - {"HEAD"}
    assert allowed <= named


# Projects are separate worlds


def test_projects_share_no_queue_name(api, queue):
    stranger = api.other_project()
    post(api, queue, "mine")

    assert listed(stranger, queue) == []
    assert stranger.get("/v2/queues").json()["queues"] == []
    assert pop(stranger, queue, 1) == []
    assert stranger.delete(queue_path(queue)).status_code == 204
    assert bodies(pop(api, queue, 1)) == ["mine"]


@pytest.mark.parametrize("separator", [".", "-", "_"])
def test_project_and_queue_names_cannot_be_shifted_into_each_other(api, separator):
    # "p.x" + "y" and "p" + "x.y" read the same once they are joined
    other = api.other_project()
    one = Api(api.url, project=f"{other.project}{separator}x")

    post(one, "y", "secret")

    assert pop(other, f"x{separator}y", 1) == []
    assert bodies(pop(one, "y", 1)) == ["secret"]


@pytest.mark.parametrize("project", ["{}/x", "{}.*", "{}$", "{}%", "{} x", "{}#*", "..{}"])
def test_project_may_hold_any_character(api, queue, project):
    named = api.other_project()
    named.project = project.format(named.project).encode()

    post(named, queue, 1)

    assert bodies(listed(named, queue)) == [1]
    assert [found["name"] for found in named.get("/v2/queues").json()["queues"]] == [queue]
    assert bodies(pop(named, queue, 1)) == [1]


def test_project_case_matters(api, queue):
    lower = Api(api.url, project=f"a{api.project}")
    upper = Api(api.url, project=f"A{api.project}")

    post(lower, queue, "lower")

    assert pop(upper, queue, 1) == []
