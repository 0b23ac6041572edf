"""python-zaqarclient, version 2 of the API, without Keystone."""

import uuid
from collections.abc import Callable

import pytest
from zaqarclient.queues import client as zaqar
from zaqarclient.queues.v2.client import Client
from zaqarclient.queues.v2.message import Message
from zaqarclient.queues.v2.queues import Queue
from zaqarclient.transport import errors

from functional.http import Api
from functional.services.gateway import Gateway

CLAIM = {"ttl": 300, "grace": 60}


@pytest.fixture
def connect(gateway: Gateway) -> Callable[[], Client]:
    """Make clients of one project, each with a Client-ID of its own."""
    project = f"project-{uuid.uuid4().hex}"
    options = {"auth_opts": {"backend": "noauth", "options": {"os_project_id": project}}}
    return lambda: zaqar.Client(gateway.url, version=2, conf=options)


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()


@pytest.fixture
def jobs(client: Client, queue: str) -> Queue:
    """A queue that exists."""
    return client.queue(queue, force_create=True)


def post(jobs: Queue, *bodies: object) -> list[str]:
    """Post messages and return their ids."""
    result = jobs.post([{"body": body, "ttl": 120} for body in bodies])
    return [href.rsplit("/", 1)[1] for href in result["resources"]]


def bodies(messages: list[Message]) -> list[object]:
    return [message.body for message in messages]


def test_ping_and_home_document(client: Client) -> None:
    assert client.ping()
    assert "rel/queues" in client.homedoc()["resources"]


def test_queue_exists_from_creation_to_deletion(client: Client, queue: str) -> None:
    jobs = client.queue(queue)
    assert not jobs.exists()
    jobs.ensure_exists(force_create=True)
    assert jobs.exists()
    jobs.delete()
    assert not jobs.exists()


def test_queue_metadata_is_replaced(client: Client, jobs: Queue) -> None:
    jobs.metadata(new_meta={"team": "blue", "size": 1})
    assert jobs.metadata(force_reload=True)["team"] == "blue"
    jobs.metadata(new_meta={"size": 2})
    metadata = client.queue(jobs.name).metadata()
    assert metadata["size"] == 2
    assert "team" not in metadata


def test_queues_are_listed_over_several_pages(client: Client, queue: str) -> None:
    names = [f"{queue}-{number}" for number in range(3)]
    for name in names:
        client.queue(name, force_create=True)
    queues, count = client.queues(limit=2, with_count=True)
    assert [found.name for found in queues.stream()] == names
    assert count == 3


def test_listed_queues_show_their_metadata(client: Client, jobs: Queue) -> None:
    jobs.metadata(new_meta={"team": "blue"})
    queues, _ = client.queues(detailed=True)
    assert [found.metadata()["team"] for found in queues] == ["blue"]


def test_stats_count_free_and_claimed_messages(jobs: Queue) -> None:
    post(jobs, 1, 2, 3)
    jobs.claim(limit=1, **CLAIM)
    counts = jobs.stats["messages"]
    assert (counts["claimed"], counts["free"], counts["total"]) == (1, 2, 3)


def test_purge_leaves_the_queue_empty(jobs: Queue) -> None:
    post(jobs, 1, 2)
    jobs.purge(resource_types=["messages"])
    assert list(jobs.messages(echo=True)) == []
    assert jobs.exists()


def test_message_is_read_by_its_id(jobs: Queue) -> None:
    (id_,) = post(jobs, {"work": [1, None, "é"]})
    message = jobs.message(id_)
    assert message.id == id_
    assert message.body == {"work": [1, None, "é"]}
    assert message.ttl == 120
    assert message.claim_id is None


def test_unknown_message_is_not_found(jobs: Queue) -> None:
    with pytest.raises(errors.ResourceNotFound):
        jobs.message(str(uuid.uuid4()))


def test_messages_are_read_by_their_ids(jobs: Queue) -> None:
    ids = post(jobs, "a", "b", "c")
    found = bodies(jobs.messages(ids[0], ids[2]))
    assert len(found) == 2
    assert "a" in found and "c" in found


def test_messages_are_listed_over_several_pages(jobs: Queue) -> None:
    post(jobs, *range(5))
    assert bodies(jobs.messages(limit=2, echo=True).stream()) == [0, 1, 2, 3, 4]


def test_own_messages_are_not_echoed(connect: Callable[[], Client], jobs: Queue) -> None:
    post(jobs, "mine")
    assert list(jobs.messages()) == []
    assert bodies(connect().queue(jobs.name).messages()) == ["mine"]


def test_messages_are_deleted_one_by_one_and_together(jobs: Queue) -> None:
    ids = post(jobs, "a", "b", "c")
    jobs.message(ids[0]).delete()
    jobs.delete_messages(ids[1])
    assert bodies(jobs.messages(echo=True)) == ["c"]


def test_pop_removes_the_oldest(jobs: Queue) -> None:
    post(jobs, "a", "b", "c")
    assert bodies(jobs.pop(2)) == ["a", "b"]
    assert bodies(jobs.messages(echo=True)) == ["c"]


def test_pop_of_nothing_is_empty(jobs: Queue) -> None:
    assert list(jobs.pop()) == []


def test_claim_hides_its_messages(jobs: Queue) -> None:
    post(jobs, "a", "b", "c")
    claim = jobs.claim(limit=2, **CLAIM)
    assert bodies(claim) == ["a", "b"]
    assert bodies(jobs.messages(echo=True)) == ["c"]
    assert bodies(jobs.messages(echo=True, include_claimed=True)) == ["a", "b", "c"]


def test_claim_with_default_times(jobs: Queue) -> None:
    post(jobs, "a")
    assert bodies(jobs.claim()) == ["a"]


def test_claim_of_nothing_has_no_id(jobs: Queue) -> None:
    claim = jobs.claim(**CLAIM)
    assert claim.id is None
    assert list(claim) == []


def test_claim_is_read_by_its_id(jobs: Queue) -> None:
    post(jobs, "a")
    claim = jobs.claim(id=jobs.claim(**CLAIM).id)
    assert bodies(claim) == ["a"]
    assert claim.ttl == CLAIM["ttl"]
    assert claim.age < CLAIM["ttl"]


def test_claim_is_renewed(jobs: Queue) -> None:
    post(jobs, "a")
    claim = jobs.claim(**CLAIM)
    claim.update(ttl=600, grace=120)
    assert jobs.claim(id=claim.id).ttl == 600


def test_claimed_messages_are_deleted_by_their_worker(jobs: Queue) -> None:
    (id_,) = post(jobs, "a")
    (message,) = jobs.claim(**CLAIM)
    with pytest.raises(errors.ForbiddenError):
        Message(jobs, ttl=0, age=0, body=None, href=f"/v2/queues/{jobs.name}/messages/{id_}").delete()
    message.delete()
    assert jobs.stats["messages"]["total"] == 0


def test_released_claim_frees_its_messages(jobs: Queue) -> None:
    post(jobs, "a")
    claim = jobs.claim(**CLAIM)
    claim.delete()
    with pytest.raises(errors.ResourceNotFound):
        list(jobs.claim(id=claim.id))
    assert bodies(jobs.messages(echo=True)) == ["a"]


def test_signed_url_opens_the_queue_without_other_credentials(gateway: Gateway, jobs: Queue) -> None:
    signature = jobs.signed_url(paths=["messages"], ttl_seconds=600, methods=["GET", "POST"])
    options = {
        "backend": "signed-url",
        "options": {
            "signature": signature["signature"],
            "expires": signature["expires"],
            "methods": signature["methods"],
            "paths": signature["paths"],
            "os_project_id": signature["project"],
        },
    }
    guest = zaqar.Client(gateway.url, version=2, conf={"auth_opts": options}).queue(jobs.name)
    post(guest, "from outside")
    assert bodies(jobs.messages()) == ["from outside"]
    with pytest.raises(errors.ResourceNotFound):
        guest.pop()  # DELETE is not among the methods


def test_project_of_the_client_reaches_the_gateway(gateway: Gateway, client: Client, jobs: Queue) -> None:
    project = client.auth_opts["options"]["os_project_id"]
    own, foreign = Api(gateway.url, project), Api(gateway.url)
    assert own.head(f"/v2/queues/{jobs.name}").status_code == 204
    assert foreign.head(f"/v2/queues/{jobs.name}").status_code == 404
