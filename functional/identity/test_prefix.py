"""The clients, with a gateway below a path in Keystone's catalogue, whether a proxy takes the path off or leaves it."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import openstack
import pytest
import requests
import yaml
from openstack.message.v2.claim import Claim
from zaqarclient.queues import client as zaqarclient

from functional.api.helpers import messages_path
from functional.http import Api
from functional.identity.conftest import PASSWORD, Cloud
from functional.prefix_proxy import proxy
from functional.services.gateway import Gateway
from functional.services.openstack_client import OpenStackClient

PREFIX = "/messaging"

#: Seconds for one request.
TIMEOUT = 60

#: More than a page.
BODIES = [{"n": number} for number in range(12)]


@pytest.fixture(params=[True, False], ids=["taken off", "left"])
def place(
    request: pytest.FixtureRequest, cloud: Cloud, another_gateway: Callable[..., Gateway]
) -> Iterator[tuple[str, str]]:
    """A region of Keystone's catalogue with such a gateway, and the gateway's URL there."""
    gateway = another_gateway(wsgi={"prefix": PREFIX})
    region = uuid.uuid4().hex
    identity = cloud.keystone.admin.identity
    identity.create_region(id=region)
    (service,) = identity.services(type="messaging")
    with proxy(gateway.port, PREFIX) if request.param else nullcontext(gateway.url + PREFIX) as url:
        for interface in ("public", "internal"):
            identity.create_endpoint(service_id=service.id, url=url, interface=interface, region_id=region)
        yield region, url


def member(cloud: Cloud, region: str) -> dict[str, Any]:
    """What clouds.yaml says."""
    return {**cloud.keystone.cloud("member", PASSWORD, "shop"), "region_name": region}


def test_sdk_finds_its_way(
    cloud: Cloud, place: tuple[str, str], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    region, url = place
    # openstacksdk 4.22's create_claim fails whatever the service answers, see functional/clients.
    monkeypatch.setattr(Claim, "_update_location", lambda claim: None)
    proxy = openstack.connect(load_yaml_config=False, load_envvars=False, **member(cloud, region)).message
    assert proxy.get_endpoint().rstrip("/").removesuffix("/v2") == url
    proxy.create_queue(name=queue)
    posted = proxy.post_message(queue, [{"body": body, "ttl": 600} for body in BODIES])
    assert all(href.startswith(f"{PREFIX}{messages_path(queue)}/") for href in posted)
    assert [message.body for message in proxy.messages(queue, echo=True, limit=5)] == BODIES
    claim = proxy.create_claim(queue, ttl=300, grace=60, limit=1)
    (held,) = proxy.get_claim(queue, claim.id).messages
    proxy.delete_message(queue, held["id"], claim=claim.id)
    assert queue in [found.name for found in proxy.queues(limit=1)]
    proxy.delete_queue(queue)


def test_command_line_finds_its_way(
    cloud: Cloud, place: tuple[str, str], command_line: OpenStackClient, queue: str, tmp_path: Path
) -> None:
    region, url = place
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(yaml.safe_dump({"clouds": {"member": member(cloud, region)}}))
    def messaging(command: str, *arguments: str, shows: bool = True) -> Any:
        form = ["-f", "json"] if shows else []
        done = command_line.run(clouds, "--os-cloud", "member", "messaging", *command.split(), *arguments, *form)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    client = ("--client-id", str(uuid.uuid4()))
    messaging("message post", queue, json.dumps([{"body": body, "ttl": 600} for body in BODIES]), *client, shows=False)
    listed = messaging("message list", queue, "--echo", *client)
    assert [message["Body"] for message in listed] == BODIES[:10]
    (claimed,) = messaging("claim create", queue, "--ttl", "300", "--grace", "60", "--limit", "1")
    messaging("claim release", queue, claimed["Claim_ID"], shows=False)
    signed = messaging("queue signed url", queue, "--paths", "messages", "--methods", "GET")
    headers = {
        "URL-Signature": signed["Signature"], "URL-Expires": signed["Expires"], "URL-Methods": signed["Methods"],
        "URL-Paths": signed["Paths"], "X-Project-ID": signed["Project ID"], "Client-ID": str(uuid.uuid4()),
    }
    shared = requests.get(f"{url}{messages_path(queue)}?limit=20", headers=headers, timeout=TIMEOUT)
    assert len(shared.json()["messages"]) == len(BODIES)
    messaging("queue delete", queue, shows=False)


def test_library_of_the_command_line_follows_links(
    another_gateway: Callable[..., Gateway], queue: str
) -> None:
    """It has an odd idea of where they lead."""
    url = another_gateway(wsgi={"prefix": PREFIX}, DEFAULT={"auth_strategy": "noauth"}).url + PREFIX
    options = {"auth_opts": {"backend": "noauth", "options": {"os_project_id": "shop"}}}
    found = zaqarclient.Client(url, version=2, conf=options).queue(queue)
    found.post([{"body": body, "ttl": 300} for body in BODIES])
    assert [message.body for message in found.messages(echo=True).stream()] == BODIES


def test_links_lead_on_from_the_host(cloud: Cloud, place: tuple[str, str], queue: str) -> None:
    """As gophercloud's do from the service's URL, which sends the prefix twice."""
    _, url = place
    host = url.removesuffix(PREFIX)
    headers = {"X-Auth-Token": cloud.token("member"), "Client-ID": str(uuid.uuid4())}

    def follow(path: str, **more: Any) -> Any:
        answers = [requests.request(url=f"{start}{path}", headers=headers, timeout=TIMEOUT, **more)
                   for start in (host, url)]
        assert len({answer.content for answer in answers}) == 1
        return answers[0].json()

    with closing(Api(url)) as api:
        api.put(f"/v2/queues/{queue}", headers={**headers, "X-Project-ID": None})
    (version,) = requests.get(f"{url}/", timeout=TIMEOUT).json()["versions"]
    home = follow(version["links"][0]["href"], method="GET")
    queues = follow(home["resources"]["rel/queues"]["href-template"].partition("{")[0], method="GET")
    assert queue in [found["name"] for found in queues["queues"]]
    assert "queues" in follow(queues["links"][0]["href"], method="GET")
