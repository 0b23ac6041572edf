"""Rule 8: an answer says what happened, whatever the gateway that gives it happened to remember.

A and B are gateways on one store. A remembers something of a queue, B changes it, and then A is asked.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pika
import pytest

from functional.api.helpers import (
    assert_error,
    bodies,
    claim,
    claims_path,
    create,
    get_claim,
    get_message,
    ids,
    listed,
    messages_path,
    patch_metadata,
    pop,
    post,
    post_documents,
    queue_path,
    stats,
)
from functional.http import Api
from functional.rules.two_gateways import BESIDE_MONGODB, EMBEDDED, HYBRID, Broker, Two, two_gateways
from gateway.core.queues.names import broker_name

#: The key of an encrypted queue.
ENCRYPTED = "_enable_encrypt_messages"

#: A body that can be found wherever it lies in clear.
SECRET = "in-clear-4711"

#: Rounds of a race that nothing can be kept back in.
ROUNDS = 25


@pytest.fixture(scope="module", params=[EMBEDDED, BESIDE_MONGODB, HYBRID])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """The two gateways, for all tests of this module."""
    with two_gateways(request.param, request, tmp_path_factory.mktemp("two")) as started:
        yield started


@pytest.fixture
def a(two: Two) -> Iterator[Api]:
    """A client of the gateway that remembers, in a project of its own."""
    client = Api(two.first.url)
    yield client
    client.close()


@pytest.fixture
def b(two: Two, a: Api) -> Iterator[Api]:
    """Another client of the same project, at the other gateway."""
    client = Api(two.second.url, a.project)
    yield client
    client.close()


@pytest.fixture
def broker(pika_connection: Callable[[], pika.BlockingConnection]) -> Broker:
    """The broker's other users."""
    return Broker(pika_connection())


#: Tests of what loopback:// does not have.
needs_broker = pytest.mark.parametrize("two", [HYBRID], indirect=True, scope="module")


def remember_none(api: Api, queue: str) -> None:
    """Let the gateway look for a queue that does not exist."""
    answer = api.get(messages_path(queue))
    assert (answer.status_code, answer.json()["messages"]) == (200, [])


def remember(api: Api, queue: str) -> None:
    """Let the gateway look for a queue that exists and is empty."""
    assert pop(api, queue, 20) == []


def everything(api: Api, queue: str) -> list:
    """What a list shows of a queue when it is to show all."""
    return listed(api, queue, include_claimed="true", include_delayed="true")


def assert_gone(queue: str, id_: str, *clients: Api) -> None:
    """No gateway has the message any more."""
    for api in clients:
        assert get_message(api, queue, id_).status_code == 404
        assert id_ not in ids(everything(api, queue))
        assert claim(api, queue) == (None, [])
    assert stats(clients[0], queue)["total"] == 0


class TestQueueThatSomebodyElseHasJustMade:
    """A has looked for the queue in vain; the first post goes through B, and the next call through A at once."""

    @pytest.fixture
    def posted(self, a: Api, b: Api, queue: str) -> Callable[..., list[str]]:
        """Post through B what A does not know of."""

        def first_post(*values: object) -> list[str]:
            remember_none(a, queue)
            return post(b, queue, *values)

        return first_post

    def test_exists(self, a, b, queue, posted):
        posted(1)
        assert a.head(queue_path(queue)).status_code == 204

    def test_message_is_listed(self, a, b, queue, posted):
        posted_ids = posted(1, 2)
        assert ids(listed(a, queue)) == posted_ids

    def test_message_is_found_by_id(self, a, b, queue, posted):
        (id_,) = posted("x")
        assert get_message(a, queue, id_).json()["body"] == "x"

    def test_messages_are_found_by_ids(self, a, b, queue, posted):
        posted_ids = posted(1, 2)
        answer = a.get(messages_path(queue), params={"ids": ",".join(posted_ids)})
        assert answer.status_code == 200, answer.text
        assert ids(answer.json()["messages"]) == posted_ids

    def test_messages_are_claimed(self, a, b, queue, posted):
        posted_ids = posted(1, 2)
        assert ids(claim(a, queue)[1]) == posted_ids

    def test_messages_are_popped(self, a, b, queue, posted):
        posted_ids = posted(1, 2)
        assert ids(pop(a, queue, 2)) == posted_ids
        assert everything(b, queue) == []

    def test_message_is_deleted(self, a, b, queue, posted):
        (id_,) = posted(1)
        assert a.delete(f"{messages_path(queue)}/{id_}").status_code == 204
        assert_gone(queue, id_, b, a)

    def test_messages_are_deleted_by_ids(self, a, b, queue, posted):
        posted_ids = posted(1, 2)
        assert a.delete(messages_path(queue), params={"ids": ",".join(posted_ids)}).status_code == 204
        for id_ in posted_ids:
            assert_gone(queue, id_, b, a)

    def test_messages_are_counted(self, a, b, queue, posted):
        posted(1, 2)
        assert stats(a, queue)["total"] == 2

    def test_messages_are_purged(self, a, b, queue, posted):
        posted(1, 2)
        assert a.post(f"{queue_path(queue)}/purge").status_code == 204
        assert everything(b, queue) == []

    def test_delayed_message_is_found_by_id(self, a, b, queue):
        remember_none(a, queue)
        (id_,) = post(b, queue, 1, delay=300)
        assert get_message(a, queue, id_).status_code == 200

    @pytest.fixture
    def claimed(self, a: Api, b: Api, queue: str) -> tuple[str, list]:
        """A has looked in vain, then B has posted and claimed, all within a moment."""
        remember_none(a, queue)
        post(b, queue, 1, 2)
        claim_id, messages = claim(b, queue, ttl=300, grace=60)
        assert claim_id is not None
        return claim_id, messages

    def test_claimed_message_is_deleted(self, a, b, queue, claimed):
        claim_id, messages = claimed
        for message in messages:
            assert a.delete(message["href"]).status_code == 204
        assert get_claim(b, queue, claim_id).status_code == 404
        assert everything(b, queue) == []

    def test_claim_is_released(self, a, b, queue, claimed):
        claim_id, messages = claimed
        assert a.delete(f"{claims_path(queue)}/{claim_id}").status_code == 204
        assert ids(claim(b, queue)[1]) == ids(messages)

    def test_claim_is_renewed(self, a, b, queue, claimed):
        claim_id, _ = claimed
        assert a.patch(f"{claims_path(queue)}/{claim_id}", json={"ttl": 900, "grace": 60}).status_code == 204
        assert get_claim(b, queue, claim_id).json()["ttl"] == 900

    def test_claim_is_shown(self, a, b, queue, claimed):
        claim_id, messages = claimed
        answer = get_claim(a, queue, claim_id)
        assert answer.status_code == 200, answer.text
        assert ids(answer.json()["messages"]) == ids(messages)

    def test_claim_protects_its_messages(self, a, b, queue, claimed):
        claim_id, messages = claimed
        path = f"{messages_path(queue)}/{messages[0]['id']}"
        assert_error(a.delete(path), 403)
        assert_error(a.delete(path, params={"claim_id": uuid.uuid4().hex}), 403)
        assert len(get_claim(b, queue, claim_id).json()["messages"]) == 2

    def test_free_message_is_not_deleted_for_a_claim_that_is_none(self, a, b, queue, posted):
        (id_,) = posted(1)
        assert_error(a.delete(f"{messages_path(queue)}/{id_}", params={"claim_id": "invalid"}), 400)
        assert get_message(b, queue, id_).status_code == 200

    def test_patch_finds_the_queue(self, a, b, queue, posted):
        posted(1)
        answer = patch_metadata(a, queue, {"op": "add", "path": "/metadata/color", "value": "red"})
        assert answer.status_code == 200, answer.text

    def test_first_post_of_all_gateways_makes_one_queue(self, a, b, queue, posted):
        (first,) = posted(1)
        (second,) = post(a, queue, 2)
        assert ids(listed(a, queue)) == ids(listed(b, queue)) == [first, second]


class TestQueueThatSomebodyElseHasJustChanged:
    """Encryption and access never depend on what A remembers."""

    def assert_sealed(self, two: Two, api: Api, queue: str, request: pytest.FixtureRequest) -> None:
        """Neither the side-store nor the broker has the secret in clear, and readers have it."""
        assert not two.has_stored(SECRET, api.project)
        if two.has_broker:
            waiting = Broker(request.getfixturevalue("pika_connection")()).drain(broker_name(api.project, queue))
            assert waiting, "nothing has been published"
            assert all(SECRET.encode() not in body for _, body in waiting)
        else:
            assert bodies(listed(api, queue)) == [SECRET]

    def test_post_into_a_new_encrypted_queue_is_sealed(self, two, a, b, queue, request):
        remember_none(a, queue)
        create(b, queue, **{ENCRYPTED: True})
        post(a, queue, SECRET)
        self.assert_sealed(two, a, queue, request)

    def test_delayed_post_into_a_new_encrypted_queue_is_sealed(self, two, a, b, queue, request):
        remember_none(a, queue)
        create(b, queue, **{ENCRYPTED: True})
        post(a, queue, SECRET, delay=60)
        assert not two.has_stored(SECRET, a.project)
        assert bodies(everything(b, queue)) == [SECRET]

    @pytest.mark.parametrize("how", ["put", "patch"])
    def test_post_into_a_queue_that_is_encrypted_from_now_on_is_sealed(self, two, a, b, queue, request, how):
        create(b, queue)
        remember(a, queue)
        post(a, queue, "nothing secret", delay=900)
        if how == "put":
            assert b.put(queue_path(queue), json={ENCRYPTED: True}).status_code == 204
        else:
            answer = patch_metadata(b, queue, {"op": "add", "path": f"/metadata/{ENCRYPTED}", "value": True})
            assert answer.status_code == 200, answer.text
        post(a, queue, SECRET)
        self.assert_sealed(two, a, queue, request)

    def test_post_into_a_queue_that_was_made_again_encrypted_is_sealed(self, two, a, b, queue, request):
        create(a, queue)
        remember(a, queue)
        assert b.delete(queue_path(queue)).status_code == 204
        create(b, queue, **{ENCRYPTED: True})
        post(a, queue, SECRET)
        self.assert_sealed(two, a, queue, request)

    def test_post_while_the_queue_is_being_encrypted_is_sealed_once_that_is_answered(self, two, a, b, queue, request):
        """The answer to the change comes while A posts all the time."""
        create(a, queue)
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                post(a.other_client(), queue, "nothing secret")

        thread = threading.Thread(target=busy)
        thread.start()
        try:
            time.sleep(0.3)
            patch_metadata(b, queue, {"op": "add", "path": f"/metadata/{ENCRYPTED}", "value": True})
            post(a, queue, SECRET)
        finally:
            stop.set()
            thread.join()
        assert not two.has_stored(SECRET, a.project)
        if two.has_broker:
            waiting = Broker(request.getfixturevalue("pika_connection")()).drain(broker_name(a.project, queue))
            assert all(SECRET.encode() not in body for _, body in waiting)

    @needs_broker
    @pytest.mark.parametrize("before", ["none", "plain"])
    def test_post_into_a_queue_that_is_for_reading_is_refused(self, a, b, queue, broker, before):
        foreign = broker.queue()
        if before == "none":
            remember_none(a, queue)
        else:
            create(a, queue)
            remember(a, queue)
            assert b.delete(queue_path(queue)).status_code == 204
        create(b, queue, _bridge={"source": {"queue": foreign}})
        answer = a.post(messages_path(queue), json={"messages": [{"body": SECRET}]})
        assert broker.drain(foreign) == []
        assert_error(answer, 403)

    @needs_broker
    def test_delayed_post_into_a_queue_that_is_for_reading_is_refused(self, a, b, queue, broker):
        remember_none(a, queue)
        create(b, queue, _bridge={"source": {"queue": broker.queue()}})
        assert_error(a.post(messages_path(queue), json={"messages": [{"body": SECRET, "delay": 60}]}), 403)
        assert everything(b, queue) == []

    @needs_broker
    @pytest.mark.parametrize("read", ["claim", "pop", "list"])
    def test_source_of_a_deleted_queue_is_not_read_any_more(self, a, b, queue, broker, read):
        foreign = broker.queue()
        create(a, queue, _bridge={"source": {"queue": foreign}})
        remember(a, queue)
        assert b.delete(queue_path(queue)).status_code == 204
        broker.publish(foreign, b'"theirs"')
        got = {
            "claim": lambda: claim(a, queue)[1],
            "pop": lambda: pop(a, queue, 1),
            "list": lambda: listed(a, queue),
        }[read]()
        assert got == []
        assert [body for _, body in broker.drain(foreign)] == [b'"theirs"']

    @needs_broker
    def test_post_goes_to_the_target_that_was_just_set(self, a, b, queue, broker):
        exchange, outside = broker.exchange()
        create(a, queue)
        remember(a, queue)
        post(a, queue, "before", delay=900)
        target = {"target": {"exchange": exchange, "routing_key": ""}}
        answer = patch_metadata(b, queue, {"op": "add", "path": "/metadata/_bridge", "value": target})
        if answer.status_code == 409:
            pytest.skip("a queue that exists can't be given a target")
        assert answer.status_code == 200, answer.text
        post(a, queue, "after")
        assert [json.loads(body) for _, body in broker.drain(outside)] == ["after"]

    @needs_broker
    def test_post_goes_to_the_target_that_was_just_changed(self, a, b, queue, broker):
        old, old_queue = broker.exchange()
        new, new_queue = broker.exchange()
        create(a, queue, _bridge={"target": {"exchange": old, "routing_key": ""}})
        post(a, queue, "first")
        target = {"target": {"exchange": new, "routing_key": ""}}
        patched = patch_metadata(b, queue, {"op": "replace", "path": "/metadata/_bridge", "value": target})
        assert patched.status_code == 200, patched.text
        post(a, queue, "second")
        assert [json.loads(body) for _, body in broker.drain(old_queue)] == ["first"]
        assert [json.loads(body) for _, body in broker.drain(new_queue)] == ["second"]

    @needs_broker
    def test_post_does_not_go_to_the_target_of_a_deleted_queue(self, a, b, queue, broker):
        exchange, outside = broker.exchange()
        create(a, queue, _bridge={"target": {"exchange": exchange, "routing_key": ""}})
        post(a, queue, "first")
        assert b.delete(queue_path(queue)).status_code == 204
        (id_,) = post(a, queue, SECRET)
        assert [json.loads(body) for _, body in broker.drain(outside)] == ["first"]
        assert ids(listed(b, queue)) == [id_]


class TestQueueThatSomebodyElseHasJustDeleted:
    """A knows the queue, B deletes it, and then A is asked."""

    @pytest.mark.parametrize("again", [False, True], ids=["stays-deleted", "made-again"])
    def test_post_is_found_by_later_readers(self, a, b, queue, again):
        post(a, queue, "old")
        assert b.delete(queue_path(queue)).status_code == 204
        (id_,) = post(a, queue, "new")
        if again:
            b.put(queue_path(queue))
        for api in (b, a):
            assert ids(everything(api, queue)) == [id_]
            assert get_message(api, queue, id_).status_code == 200
            assert api.head(queue_path(queue)).status_code == 204
        time.sleep(1.2)  # nobody remembers anything now
        for api in (b, a):
            assert ids(everything(api, queue)) == [id_]
        assert queue in [entry["name"] for entry in b.get("/v2/queues").json()["queues"]]
        assert ids(claim(b, queue)[1]) == [id_]

    def test_delayed_post_is_found_by_later_readers(self, a, b, queue):
        post(a, queue, "old")
        assert b.delete(queue_path(queue)).status_code == 204
        (id_,) = post(a, queue, "new", delay=300)
        for api in (b, a):
            assert ids(everything(api, queue)) == [id_]
            assert api.head(queue_path(queue)).status_code == 204
        time.sleep(1.2)
        b.put(queue_path(queue))
        for api in (b, a):
            assert ids(everything(api, queue)) == [id_]
            assert get_message(api, queue, id_).status_code == 200

    def test_post_after_a_delete_elsewhere_is_never_a_conflict(self, a, b, queue):
        for number in range(ROUNDS):
            post(a, queue, number)
            assert b.delete(queue_path(queue)).status_code == 204
        for number in range(ROUNDS):
            name = f"{queue}-{number}"
            remember_none(a, name)
            remember_none(b, name)
            assert b.delete(queue_path(name)).status_code == 204
            post(a, name, number)

    def test_posts_while_others_delete_the_queue_are_no_errors(self, a, b, queue):
        """Each is answered 201, and what was posted after the last delete is there."""
        stop = threading.Event()

        def delete() -> None:
            while not stop.is_set():
                assert b.delete(queue_path(queue)).status_code == 204

        with ThreadPoolExecutor(1) as pool:
            deleting = pool.submit(delete)
            end = time.monotonic() + 2
            try:
                while time.monotonic() < end:
                    answer = a.post(messages_path(queue), json={"messages": [{"body": 1}]})
                    assert answer.status_code == 201, answer.text
            finally:
                stop.set()
            deleting.result()
        (id_,) = post(a, queue, "last")
        assert id_ in ids(listed(b, queue))

    def test_first_posts_beside_polls_are_no_errors(self, a, queue):
        """One client polls and reads that there is no queue, while another creates it."""
        stop = threading.Event()
        current = [queue]

        def poll() -> None:
            client = a.other_client()
            while not stop.is_set():
                assert client.get(messages_path(current[0])).status_code == 200

        with ThreadPoolExecutor(4) as pool:
            polling = [pool.submit(poll) for _ in range(4)]
            try:
                for number in range(ROUNDS):
                    current[0] = f"{queue}-{number}"
                    answer = a.post(messages_path(current[0]), json={"messages": [{"body": 1}]})
                    assert answer.status_code == 201, answer.text
                    assert len(listed(a, current[0])) == 1
            finally:
                stop.set()
            for future in polling:
                future.result()

    @pytest.mark.parametrize("maker", ["a", "b"])
    def test_nothing_of_the_old_queue_is_in_the_new_one(self, a, b, queue, maker):
        posted = post(a, queue, *range(4))
        claim_id, held = claim(a, queue, 2, ttl=300, grace=60)
        listed(a, queue, limit=1)
        posted += post(a, queue, "later", delay=1)
        posted += post(a, queue, "last")
        assert b.delete(queue_path(queue)).status_code == 204
        api, other = (a, b) if maker == "a" else (b, a)
        assert api.put(queue_path(queue)).status_code == 201
        for reader in (api, other):
            assert everything(reader, queue) == []
            assert get_claim(reader, queue, claim_id).status_code == 404
            assert all(get_message(reader, queue, id_).status_code == 404 for id_ in posted)
            assert stats(reader, queue) == {"claimed": 0, "free": 0, "total": 0}
            answer = reader.patch(f"{claims_path(queue)}/{claim_id}", json={"ttl": 300})
            assert answer.status_code == 404
            assert reader.delete(f"{claims_path(queue)}/{claim_id}").status_code == 204
            assert reader.delete(held[0]["href"]).status_code == 204
        time.sleep(1.5)  # what was delayed would be due
        assert claim(api, queue) == claim(other, queue) == (None, [])
        assert pop(other, queue, 5) == []

    def test_delete_of_a_message_that_the_old_queue_had_is_done(self, a, b, queue):
        """The tombstone of the old queue's message hides nothing of the new one."""
        (old,) = post(a, queue, "old")
        assert a.delete(f"{messages_path(queue)}/{old}").status_code == 204
        assert b.delete(queue_path(queue)).status_code == 204
        (new,) = post(a, queue, "new")
        assert ids(listed(b, queue)) == [new]

    def test_reads_through_the_other_gateway_find_nothing(self, a, b, queue):
        (id_,) = post(a, queue, "old")
        claim_id, _ = claim(a, queue)
        post(a, queue, "free")
        assert b.delete(queue_path(queue)).status_code == 204
        assert everything(a, queue) == []
        assert claim(a, queue) == (None, [])
        assert pop(a, queue, 1) == []
        assert get_message(a, queue, id_).status_code == 404
        assert get_claim(a, queue, claim_id).status_code == 404
        assert a.head(queue_path(queue)).status_code == 404
        assert stats(a, queue)["total"] == 0

    def test_metadata_of_the_old_queue_does_not_come_back(self, a, b, queue):
        create(a, queue, color="red", _default_message_ttl=120)
        remember(a, queue)
        assert b.delete(queue_path(queue)).status_code == 204
        post(a, queue, 1)
        assert "color" not in b.get(queue_path(queue)).json()

    def test_put_through_the_other_gateway_says_that_the_queue_is_new(self, a, b, queue):
        create(a, queue)
        remember(a, queue)
        assert b.delete(queue_path(queue)).status_code == 204
        assert a.put(queue_path(queue)).status_code == 201
        assert b.put(queue_path(queue)).status_code == 204


class TestMessageThatWaitsAnywhere:
    """The same calls get the same answers, whether a message has landed or not."""

    @pytest.mark.parametrize("landed", [False, True], ids=["waits", "landed"])
    def test_claim_id_of_a_free_message(self, a, b, queue, landed):
        (id_,) = post(a, queue, 1)
        if landed:
            listed(b, queue)
        path = f"{messages_path(queue)}/{id_}"
        for claim_id in ("invalid", uuid.uuid4().hex):
            assert_error(a.delete(path, params={"claim_id": claim_id}), 400)
            assert get_message(b, queue, id_).status_code == 200

    def test_claim_id_of_a_message_that_does_not_exist(self, a, queue):
        post(a, queue, 1)
        path = f"{messages_path(queue)}/{uuid.uuid4()}"
        assert a.delete(path, params={"claim_id": "invalid"}).status_code == 204

    @pytest.mark.parametrize("landed", [False, True], ids=["waits", "landed"])
    def test_delete_of_a_message_in_the_middle(self, a, b, queue, landed):
        posted = post(a, queue, *range(5))
        if landed:
            listed(b, queue)
        assert b.delete(f"{messages_path(queue)}/{posted[2]}").status_code == 204
        assert get_message(a, queue, posted[2]).status_code == 404
        assert ids(claim(a, queue)[1]) == posted[:2] + posted[3:]

    @needs_broker
    @pytest.mark.parametrize("behind", [0, 30], ids=["alone", "behind others"])
    def test_message_with_an_id_dated_ahead_is_found(self, a, b, queue, broker, behind):
        post(a, queue, *range(behind)) if behind else create(a, queue)
        id_ = post_ahead(a, queue, broker)
        for api in (a, b):
            assert get_message(api, queue, id_).status_code == 200

    @needs_broker
    @pytest.mark.parametrize("how", ["path", "ids"])
    def test_message_with_an_id_dated_ahead_is_deleted(self, a, b, queue, broker, how):
        create(a, queue)
        id_ = post_ahead(a, queue, broker)
        if how == "path":
            answer = a.delete(f"{messages_path(queue)}/{id_}")
        else:
            answer = a.delete(messages_path(queue), params={"ids": id_})
        assert answer.status_code == 204
        assert_gone(queue, id_, b, a)

    @needs_broker
    def test_claim_id_of_a_message_with_an_id_dated_ahead(self, a, b, queue, broker):
        create(a, queue)
        id_ = post_ahead(a, queue, broker)
        assert_error(a.delete(f"{messages_path(queue)}/{id_}", params={"claim_id": "invalid"}), 400)

    @needs_broker
    def test_messages_behind_one_that_is_dated_ahead_are_found_and_deleted(self, a, b, queue, broker):
        create(a, queue)
        post_ahead(a, queue, broker)
        posted = post(a, queue, *range(60))
        assert b.delete(f"{messages_path(queue)}/{posted[-1]}").status_code == 204
        assert get_message(a, queue, posted[-2]).status_code == 200
        got = []
        while batch := claim(b, queue)[1]:
            got += ids(batch)
        assert posted[-1] not in got
        assert got[1:] == posted[:-1]


def post_ahead(api: Api, queue: str, broker: Broker, seconds: int = 600) -> str:
    """Post as a gateway whose clock is ahead; the message's id. What waits in the queue goes in front of it."""
    own = broker_name(api.project, queue)
    waiting = broker.drain(own)
    (id_,) = post_documents(api, queue, {"body": "ahead", "ttl": 3600})
    ((properties, body),) = broker.drain(own)
    stamp = int(id_[:8] + id_[9:13], 16) + seconds * 1000
    properties.message_id = f"{stamp:012x}"[:8] + "-" + f"{stamp:012x}"[8:] + id_[13:]
    for old_properties, old_body in waiting:
        broker.publish(own, old_body, old_properties)
    broker.publish(own, body, properties)
    return str(properties.message_id)
