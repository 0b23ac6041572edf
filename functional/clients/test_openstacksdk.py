"""The message proxy of openstacksdk, without Keystone."""

import uuid
from collections.abc import Iterable

import openstack
import pytest
from keystoneauth1 import noauth, session
from openstack.exceptions import ForbiddenException, NotFoundException
from openstack.message.v2._proxy import Proxy
from openstack.message.v2.claim import Claim
from openstack.message.v2.message import Message

from functional.http import Api
from functional.services.gateway import Gateway

CLAIM = {"ttl": 300, "grace": 60}


class ProjectOnly(noauth.NoAuth):
    """No Keystone, but a project. The SDK takes X-PROJECT-ID from the session, which has none with `none`."""

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def get_project_id(self, session: session.Session, **_: object) -> str:
        return self._project


def without_keystone(project: str) -> session.Session:
    """A session for `project` that never asks for a token."""
    return session.Session(auth=ProjectOnly(project))


@pytest.fixture
def project() -> str:
    return f"project-{uuid.uuid4().hex}"


@pytest.fixture
def proxy(gateway: Gateway, project: str) -> Proxy:
    """A proxy that is told the root of the service and has to discover the version there."""
    connection = openstack.connection.Connection(
        session=without_keystone(project), message_endpoint_override=gateway.url
    )
    proxy: Proxy = connection.message
    return proxy


@pytest.fixture(autouse=True)
def claims_keep_their_location(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work around openstacksdk 4.22, whose `create_claim` raises AttributeError whatever the service answers.

    It wants to read the claim's id from the header `location`, but has just put the cloud's location there.
    """
    monkeypatch.setattr(Claim, "_update_location", lambda claim: None)


@pytest.fixture
def jobs(proxy: Proxy, queue: str) -> str:
    """Name of a queue that exists."""
    proxy.create_queue(name=queue)
    return queue


def post(proxy: Proxy, queue: str, *bodies: object) -> list[str]:
    """Post messages and return their ids."""
    hrefs = proxy.post_message(queue, [{"body": body, "ttl": 120} for body in bodies])
    return [href.rsplit("/", 1)[1] for href in hrefs]


def bodies(messages: Iterable[Message]) -> list[object]:
    return [message.body for message in messages]


def test_endpoint_is_discovered(proxy: Proxy, gateway: Gateway) -> None:
    assert proxy.get_endpoint() == f"{gateway.url}/v2/"


def test_queue_is_read_with_its_defaults(proxy: Proxy, jobs: str) -> None:
    found = proxy.get_queue(jobs)
    assert found.default_message_ttl == 3600
    assert found.max_messages_post_size == 262144


def test_queue_is_created_with_metadata(proxy: Proxy, project: str, gateway: Gateway, queue: str) -> None:
    proxy.create_queue(name=queue, description="work", default_message_ttl=120)
    assert proxy.get_queue(queue).description == "work"
    metadata = Api(gateway.url, project).get(f"/v2/queues/{queue}").json()
    assert metadata["_default_message_ttl"] == 120


def test_queues_are_listed_over_several_pages(proxy: Proxy, queue: str) -> None:
    names = [f"{queue}-{number}" for number in range(3)]
    for name in names:
        proxy.create_queue(name=name)
    assert [found.name for found in proxy.queues(limit=2)] == names


def test_queue_is_deleted(proxy: Proxy, project: str, gateway: Gateway, jobs: str) -> None:
    proxy.delete_queue(jobs)
    assert Api(gateway.url, project).head(f"/v2/queues/{jobs}").status_code == 404


def test_message_is_read_by_its_id(proxy: Proxy, jobs: str) -> None:
    (id_,) = post(proxy, jobs, {"work": [1, None, "é"]})
    message = proxy.get_message(jobs, id_)
    assert message.id == id_
    assert message.body == {"work": [1, None, "é"]}
    assert message.ttl == 120


def test_messages_are_listed_over_several_pages(proxy: Proxy, jobs: str) -> None:
    post(proxy, jobs, *range(5))
    assert bodies(proxy.messages(jobs, limit=2, echo=True)) == [0, 1, 2, 3, 4]


def test_message_is_deleted(proxy: Proxy, jobs: str) -> None:
    first, _ = post(proxy, jobs, "a", "b")
    proxy.delete_message(jobs, first)
    assert bodies(proxy.messages(jobs)) == ["b"]
    with pytest.raises(NotFoundException):
        proxy.get_message(jobs, first)


def test_claim_takes_as_many_as_its_limit_says(proxy: Proxy, jobs: str) -> None:
    post(proxy, jobs, "a", "b", "c")
    claim = proxy.create_claim(jobs, limit=2, **CLAIM)
    assert [message["body"] for message in claim.messages] == ["a", "b"]
    assert bodies(proxy.messages(jobs)) == ["c"]
    assert bodies(proxy.messages(jobs, include_claimed=True)) == ["a", "b", "c"]


def test_claim_of_nothing_has_no_id(proxy: Proxy, jobs: str) -> None:
    assert proxy.create_claim(jobs, **CLAIM).id is None


def test_claim_is_read_by_its_id(proxy: Proxy, jobs: str) -> None:
    post(proxy, jobs, "a")
    claim = proxy.get_claim(jobs, proxy.create_claim(jobs, **CLAIM).id)
    assert claim.ttl == CLAIM["ttl"]
    assert [message["body"] for message in claim.messages] == ["a"]


def test_claim_is_renewed(proxy: Proxy, jobs: str) -> None:
    post(proxy, jobs, "a")
    id_ = proxy.create_claim(jobs, **CLAIM).id
    proxy.update_claim(jobs, id_, ttl=600, grace=120)
    assert proxy.get_claim(jobs, id_).ttl == 600


def test_claimed_message_is_deleted_by_its_worker(proxy: Proxy, jobs: str) -> None:
    (id_,) = post(proxy, jobs, "a")
    claim = proxy.create_claim(jobs, **CLAIM)
    with pytest.raises(ForbiddenException):
        proxy.delete_message(jobs, id_)
    proxy.delete_message(jobs, id_, claim=claim.id)
    assert bodies(proxy.messages(jobs, include_claimed=True)) == []


def test_released_claim_frees_its_messages(proxy: Proxy, jobs: str) -> None:
    post(proxy, jobs, "a")
    claim = proxy.create_claim(jobs, **CLAIM)
    proxy.delete_claim(jobs, claim)
    with pytest.raises(NotFoundException):
        proxy.get_claim(jobs, claim.id)
    assert bodies(proxy.messages(jobs)) == ["a"]


def test_project_of_the_session_reaches_the_gateway(
    proxy: Proxy, project: str, gateway: Gateway, jobs: str
) -> None:
    own, foreign = Api(gateway.url, project), Api(gateway.url)
    assert own.head(f"/v2/queues/{jobs}").status_code == 204
    assert foreign.head(f"/v2/queues/{jobs}").status_code == 404
