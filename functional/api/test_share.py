"""Pre-signed requests: what they open, and that they open nothing else."""

import datetime
import hashlib
import hmac

import pytest

from functional import raw
from functional.api.helpers import (
    JSON,
    assert_error,
    bodies,
    claim,
    claims_path,
    eventually,
    listed,
    messages_path,
    post,
    queue_path,
)
from functional.deployments import COMMON
from functional.http import Api

SECRET_KEY = COMMON["signed_url"]["secret_key"]
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"


def in_seconds(seconds):
    """A moment from now, in UTC, without microseconds."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return now + datetime.timedelta(seconds=seconds)


def written(moment):
    return moment.strftime(TIME_FORMAT)


def signature(paths, methods, project, expires, key=SECRET_KEY):
    # Between the parts stand a backslash and an n, not a line break: existing clients sign it so.
    text = r"\n".join([",".join(sorted(paths)), ",".join(sorted(methods)), project, expires])
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def share(api, queue, **document):
    response = api.post(queue_path(queue) + "/share", json=document)
    assert response.status_code == 200, response.text
    return response.json()


def headers_of(shared):
    """What a client sends that was handed the answer of `share`."""
    return {
        "URL-Signature": shared["signature"],
        "URL-Expires": shared["expires"],
        "URL-Methods": ",".join(shared["methods"]),
        "URL-Paths": ",".join(shared["paths"]),
    }


def signed_headers(project, paths, methods=("GET",), expires=None, **signing):
    """What a client sends that knows the key and the documented rule."""
    expires = expires or written(in_seconds(600))
    return {
        "URL-Signature": signature(paths, methods, project, expires, **signing),
        "URL-Expires": expires,
        "URL-Methods": ",".join(methods),
        "URL-Paths": ",".join(paths),
    }


@pytest.fixture
def guest(api):
    """Somebody with the project's name, but no credentials of it."""
    return Api(api.url, project=api.project)


# What `share` answers


def test_share_has_defaults(api, queue):
    response = api.post(queue_path(queue) + "/share", json={})

    assert response.status_code == 200
    shared = response.json()
    assert set(shared) == {"project", "paths", "methods", "expires", "signature"}
    assert shared["project"] == api.project
    assert shared["paths"] == [messages_path(queue)]
    assert shared["methods"] == ["GET"]
    expires = datetime.datetime.strptime(shared["expires"][:19], TIME_FORMAT).replace(tzinfo=datetime.UTC)
    assert abs((expires - in_seconds(24 * 3600)).total_seconds()) < 60


def test_share_signs_by_the_documented_rule(api, queue):
    shared = share(api, queue, paths=["messages", "claims"], methods=["POST", "GET"])

    expected = signature(shared["paths"], shared["methods"], api.project, shared["expires"][:19])
    assert shared["signature"] == expected


def test_share_names_full_paths(api, queue):
    shared = share(api, queue, paths=["subscriptions", "messages", "claims"])

    below = queue_path(queue)
    assert sorted(shared["paths"]) == [f"{below}/claims", f"{below}/messages", f"{below}/subscriptions"]


def test_share_keeps_its_time(api, queue):
    expires = in_seconds(3600)

    shared = share(api, queue, expires=written(expires))

    assert shared["expires"][:19] == written(expires)


@pytest.mark.parametrize("hours", [0, 5, -5])
def test_share_understands_time_zones(api, guest, queue, hours):
    post(api, queue, 1)
    zone = datetime.timezone(datetime.timedelta(hours=hours))

    shared = share(api, queue, expires=in_seconds(600).astimezone(zone).isoformat())

    assert shared["expires"][:19] <= written(in_seconds(600))
    assert guest.get(messages_path(queue), headers=headers_of(shared)).status_code == 200


@pytest.mark.parametrize(
    "document",
    [
        {"paths": ["stats"]},
        {"paths": ["messages", "purge"]},
        {"paths": ["/v2/queues"]},
        {"paths": ["messages/1"]},
        {"paths": ["../messages"]},
        {"paths": [".*"]},
        {"paths": [""]},
        {"paths": [1]},
        {"paths": [None]},
        {"paths": "messages"},
        {"paths": {"messages": 1}},
        {"paths": 1},
        {"methods": "GET"},
        {"methods": {"GET": 1}},
        {"methods": [1]},
        {"methods": 1},
        {"expires": 1},
        {"expires": 4102444800},
        {"expires": 4102444800.5},
        {"expires": True},
        {"expires": []},
        {"expires": ""},
        {"expires": "tomorrow"},
        {"expires": "4102444800"},
        {"expires": "2001-01-01T00:00:00"},
        {"expires": "0001-01-01T00:00:00+14:00"},
        {"expires": "2100-13-01T00:00:00"},
        {"project": "another"},
        {"unknown": 1},
    ],
    ids=repr,
)
def test_wrong_share_is_refused(api, queue, document):
    assert_error(api.post(queue_path(queue) + "/share", json=document), 400)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"messages"', b"{", b'{"expires": NaN}'])
def test_share_with_a_body_that_is_no_object_is_refused(api, queue, body):
    assert_error(api.post(queue_path(queue) + "/share", data=body, headers=JSON), 400)


# What a signature opens


def test_signature_opens_its_path(api, guest, queue):
    post(api, queue, "shared")

    response = guest.get(messages_path(queue) + "?echo=true", headers=headers_of(share(api, queue)))

    assert response.status_code == 200
    assert bodies(response.json()["messages"]) == ["shared"]


def test_signature_opens_what_lies_below_its_path(api, guest, queue):
    (posted,) = post(api, queue, "shared")

    response = guest.get(f"{messages_path(queue)}/{posted}", headers=headers_of(share(api, queue)))

    assert response.status_code == 200
    assert response.json()["body"] == "shared"


def test_signature_opens_each_of_its_methods_and_paths(api, guest, queue):
    headers = headers_of(share(api, queue, paths=["messages", "claims"], methods=["GET", "POST"]))

    posted = guest.post(messages_path(queue), json={"messages": [{"body": 1}]}, headers=headers)
    claimed = guest.post(claims_path(queue), json={}, headers=headers)
    shown = guest.get(claimed.headers["Location"], headers=headers)

    assert (posted.status_code, claimed.status_code, shown.status_code) == (201, 201, 200)


def test_own_signature_by_the_documented_rule_is_good(api, guest, queue):
    post(api, queue, "shared")
    headers = signed_headers(api.project, [messages_path(queue)])

    assert guest.get(messages_path(queue), headers=headers).status_code == 200


def test_order_of_paths_and_methods_does_not_matter(api, guest, queue):
    paths = [messages_path(queue), claims_path(queue)]
    headers = signed_headers(api.project, paths, methods=("POST", "GET", "DELETE"))
    headers["URL-Paths"] = ",".join(reversed(paths))
    headers["URL-Methods"] = "DELETE,GET,POST"

    assert guest.get(messages_path(queue), headers=headers).status_code == 200


# What it does not open


def test_signature_opens_no_other_method(api, guest, queue):
    headers = headers_of(share(api, queue))

    assert_error(guest.post(messages_path(queue), json={"messages": [{"body": 1}]}, headers=headers), 404)
    assert_error(guest.delete(messages_path(queue) + "?pop=1", headers=headers), 404)
    assert listed(api, queue) == []


@pytest.mark.parametrize("below", ["", "/stats", "/claims/{claim}", "/subscriptions", "/messagesx"])
def test_signature_opens_no_other_path_of_the_queue(api, guest, queue, below):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)

    path = queue_path(queue) + below.format(claim=claim_id)

    assert_error(guest.get(path, headers=headers_of(share(api, queue))), 404)


@pytest.mark.parametrize("path", ["/v2/", "/v2/queues", "/v2/ping", "/v2/health", "/v2/pools"])
def test_signature_opens_nothing_outside_the_queue(api, guest, queue, path):
    assert_error(guest.get(path, headers=headers_of(share(api, queue))), 404)


def test_signature_opens_no_other_queue(api, guest, queue):
    post(api, f"{queue}2", "secret")

    headers = headers_of(share(api, queue))

    assert_error(guest.get(messages_path(f"{queue}2") + "?echo=true", headers=headers), 404)


def test_path_of_a_signature_is_no_pattern(api, guest):
    post(api, "axb", "secret")

    headers = headers_of(share(api, "a.b"))

    assert_error(guest.get(messages_path("axb") + "?echo=true", headers=headers), 404)


def test_signature_opens_no_other_project(api, queue):
    stranger = api.other_project()
    post(stranger, queue, "secret")

    headers = headers_of(share(api, queue))

    assert_error(stranger.get(messages_path(queue) + "?echo=true", headers=headers), 404)


@pytest.mark.parametrize(
    "detour",
    ["/../stats", "/../../other/messages", "/%2e%2e/stats", "/..%2fstats", "/./../stats", "//../stats"],
)
def test_detours_lead_out_of_no_signed_path(api, queue, detour):
    headers = {
        "Host": "localhost",
        "Connection": "close",
        "Client-ID": api.client_id,
        "X-Project-ID": api.project,
        **headers_of(share(api, queue)),
    }
    lines = [
        f"GET {messages_path(queue)}{detour} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]

    response = raw.exchange(api.url, "\r\n".join([*lines, "", ""]).encode())

    assert 400 <= response.status < 500


def test_expired_signature_opens_nothing(api, guest, queue):
    headers = signed_headers(api.project, [messages_path(queue)], expires=written(in_seconds(-1)))

    assert_error(guest.get(messages_path(queue), headers=headers), 404)


def test_signature_opens_until_it_expires(api, guest, queue):
    shared = share(api, queue, expires=written(in_seconds(3)))

    before = guest.get(messages_path(queue), headers=headers_of(shared))

    assert before.status_code == 200
    eventually(
        lambda: guest.get(messages_path(queue), headers=headers_of(shared)).status_code == 404, seconds=8
    )


def test_signature_by_another_key_opens_nothing(api, guest, queue):
    headers = signed_headers(api.project, [messages_path(queue)], key="another key")

    assert_error(guest.get(messages_path(queue), headers=headers), 404)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("URL-Signature", ""),
        ("URL-Signature", "0" * 64),
        ("URL-Signature", "x"),
        ("URL-Signature", "\u00e9" * 64),
        ("URL-Signature", "0" * 10_000),
        ("URL-Expires", ""),
        ("URL-Expires", "2100-01-01T00:00:00"),
        ("URL-Expires", "tomorrow"),
        ("URL-Expires", "\u00e9"),
        ("URL-Expires", "9999999999"),
        ("URL-Expires", "9999-12-31T23:59:59-14:00"),
        ("URL-Methods", ""),
        ("URL-Methods", "GET,POST"),
        ("URL-Methods", "get"),
        ("URL-Methods", ","),
        ("URL-Paths", ""),
        ("URL-Paths", "/"),
        ("URL-Paths", "/v2"),
        ("URL-Paths", ","),
        ("URL-Paths", "/v2/queues/\u00e9/messages"),
    ],
)
def test_tampered_request_is_404(api, guest, queue, header, value):
    headers = {**headers_of(share(api, queue)), header: value}

    assert_error(guest.get(messages_path(queue), headers=headers), 404)


@pytest.mark.parametrize("missing", ["URL-Expires", "URL-Methods", "URL-Paths"])
def test_signed_request_with_a_missing_part_is_404(api, guest, queue, missing):
    headers = headers_of(share(api, queue))
    del headers[missing]

    assert_error(guest.get(messages_path(queue), headers=headers), 404)


def test_other_path_added_to_the_request_is_404(api, guest, queue):
    headers = headers_of(share(api, queue))
    headers["URL-Paths"] += f",{queue_path(queue)}/claims"

    assert_error(guest.get(messages_path(queue), headers=headers), 404)


def test_signature_for_one_message_opens_only_that(api, guest, queue):
    first, second = post(api, queue, 1, 2)
    headers = signed_headers(api.project, [f"{messages_path(queue)}/{first}"])

    opened = guest.get(f"{messages_path(queue)}/{first}", headers=headers)

    assert opened.status_code == 200
    assert_error(guest.get(f"{messages_path(queue)}/{second}", headers=headers), 404)
    assert_error(guest.get(messages_path(queue), headers=headers), 404)
