"""Requests to confirm lead to the gateway that Keystone's catalogue knows."""

import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from functional.api.helpers import eventually
from functional.deployments import sqlite
from functional.http import Api
from functional.identity.conftest import Cloud
from functional.services.gateway import Gateway
from functional.services.keystone import TIMEOUT
from tests.notify_receiver import receiving


def test_a_subscriber_confirms_at_the_url_of_the_catalogue(
    cloud: Cloud, another_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = another_gateway(
        signed_url={"secret_key": "a key"}, **sqlite(tmp_path),
        notification={"require_confirmation": True, "allowed_networks": "127.0.0.1/32"},
    )
    api, token = Api(gateway.url, cloud.shop), {"X-Auth-Token": cloud.token("member"), "X-Project-ID": None}
    with receiving() as receiver:
        path = f"/v2/queues/{uuid.uuid4()}/subscriptions"
        made = api.post(path, headers=token, json={"subscriber": receiver.url})
        assert made.status_code == 201, made.text
        eventually(lambda: bool(receiver.requests), seconds=30)
        asked = receiver.requests[0].json
    assert asked["WSGISubscribeURL"] == cloud.gateway.url + asked["URL-Paths"]

    # The catalogue has the cloud's gateway; this one is beside it, and its side-store is its own.
    here = gateway.url + urlsplit(asked["WSGISubscribeURL"]).path
    names = ("URL-Signature", "URL-Methods", "URL-Paths", "URL-Expires", "X-Project-ID")
    headers = {name: asked[name] for name in names} | {"Client-ID": str(uuid.uuid4())}
    confirmed = requests.put(here, headers=headers, json=asked["SubscribeBody"], timeout=TIMEOUT)
    assert confirmed.status_code == 204
    item = api.get(f"{path}/{made.json()['subscription_id']}", headers=token)
    assert item.json()["confirmed"] is True
    api.close()
